"""Properties of scores: no failure improves a figure; labels are names, whatever their numbers are."""

import tempfile
from math import isnan
from pathlib import Path

import nibabel
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from guidino_cli.evaluation.evaluator import EvaluationConfig, evaluate
from guidino_cli.evaluation.matching import match_predictions
from guidino_cli.evaluation.summary import EvaluationResult, pooled_lesion_scores, pooled_overlap
from guidino_cli.evaluation.truths import find_truths
from guidino_cli.metrics import INSTANCE_METRICS, METRICS

CASES = ("a", "b", "c")
SHAPE = (6, 5, 2)
ALL_METRICS = tuple(name for name in METRICS if name not in INSTANCE_METRICS)


def save(path: Path, values: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.eye(4)), path)


def random_masks(seed: int, labels: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.choice([0, *labels], size=SHAPE) for _ in CASES]


def write(folder: Path, masks: list[np.ndarray]) -> Path:
    folder.mkdir()
    for case, mask in zip(CASES, masks, strict=True):
        save(folder / f"{case}.nii", mask)
    return folder


def score(predictions: Path, truth: Path, metrics: tuple[str, ...]) -> EvaluationResult:
    truths = find_truths(truth, split="test")
    return evaluate(match_predictions(predictions, truths), truths, EvaluationConfig(metrics=metrics))


def means(result: EvaluationResult) -> dict[tuple[str, str], float]:
    return {(row.target, row.metric): row.statistics.mean for row in result.rows}


def pooled_scores(result: EvaluationResult) -> dict[str, dict[str, float]]:
    return {target: pooled_overlap(counts) for target, counts in result.pooled.items()}


def corrupt(path: Path, mask: np.ndarray, how: str) -> None:
    broken = mask.astype(np.float32)
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-7])
    elif how == "empty file":
        path.write_bytes(b"")
    else:
        broken.reshape(-1)[mask.argmax()] = {"nan": np.nan, "inf": np.inf, "-inf": -np.inf}[how]
        save(path, broken)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    case=st.integers(0, 2),
    how=st.sampled_from(["nan", "inf", "-inf", "truncated", "empty file", "missing"]),
    side=st.sampled_from(["predictions", "truth"]),
)
def test_a_corrupted_file_improves_no_mean_and_no_pooled_score(seed: int, case: int, how: str, side: str) -> None:
    """Every label occurs in every mask, so the classes stay the same; size errors of lost truths are unknown."""
    if side == "truth" and how == "missing":
        how = "truncated"
    masks, truths = random_masks(seed, [1, 2]), random_masks(seed + 1, [1, 2])
    for mask in (*masks, *truths):
        mask[0, 0] = [1, 2]
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        folders = {"predictions": write(place / "p", masks), "truth": write(place / "t", truths)}
        old = score(folders["predictions"], folders["truth"], ALL_METRICS)
        before = means(old)
        content = masks if side == "predictions" else truths
        corrupt(folders[side] / f"{CASES[case]}.nii", content[case], how)
        new = score(folders["predictions"], folders["truth"], ALL_METRICS)
        after = means(new)
    for pooled in (pooled_scores, pooled_lesion_scores):
        for target, values in pooled(new).items():
            for metric, value in values.items():
                # NaN is no score, and therefore not a better one.
                assert not value > pooled(old)[target][metric] + 1e-9, (target, metric)
    assert after.keys() == before.keys()
    for (target, metric), value in after.items():
        if side == "truth" and metric == "size_error":
            continue
        assert not isnan(value)
        gain = (value - before[target, metric]) * (1 if METRICS[metric].higher_is_better else -1)
        assert gain <= 1e-9, (target, metric, before[target, metric], value)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    labels=st.lists(st.integers(2, 9000), min_size=2, max_size=4, unique=True),
    data=st.data(),
)
def test_new_numbers_for_the_labels_of_both_sides_change_no_score(
    seed: int, labels: list[int], data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.integers(2, 9000), min_size=len(labels), max_size=len(labels), unique=True))
    renumbered = dict(zip(labels, others, strict=True)) | {0: 0}
    masks, truths = random_masks(seed, labels), random_masks(seed + 1, labels)
    rename = np.vectorize(renumbered.get)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        first = score(write(place / "p", masks), write(place / "t", truths), ("dice", "hd95"))
        second = score(
            write(place / "q", [rename(mask) for mask in masks]),
            write(place / "u", [rename(mask) for mask in truths]),
            ("dice", "hd95"),
        )
    expected = {
        (target if "_" not in target else f"class_{renumbered[int(target.split('_')[1])]}", metric): value
        for (target, metric), value in means(first).items()
    }
    found = means(second)
    assert found.keys() == expected.keys()
    for key, value in found.items():
        assert abs(value - expected[key]) < 1e-12, key


def test_every_pixel_of_a_failed_case_counts_as_wrong_in_pooled_scores(tmp_path: Path) -> None:
    """One pixel of 60 is true and found in each of three cases; case b fails, so 60 more pixels are wrong."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    mask[0, 0, 0] = 1
    write(tmp_path / "t", [mask] * 3)
    write(tmp_path / "p", [mask] * 3)
    assert pooled_scores(score(tmp_path / "p", tmp_path / "t", ("dice",)))["foreground"] == {"iou": 1.0, "dice": 1.0}
    (tmp_path / "p" / "b.nii").write_bytes(b"")
    found = pooled_scores(score(tmp_path / "p", tmp_path / "t", ("dice",)))["foreground"]
    assert found == {"iou": 2 / 62, "dice": 4 / 64}
    (tmp_path / "t" / "b.nii").write_bytes(b"")
    assert pooled_scores(score(tmp_path / "p", tmp_path / "t", ("dice",)))["foreground"] == found
