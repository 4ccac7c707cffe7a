"""`guidino tune-risk`, and what `guidino predict` makes of it: expected Dice, review list, outer and inner masks."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from guidino_cli.config import parse_config
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.models import build_model

_PRESET = """
description: a tiny network that learns bright squares in a second
model: {segmenter: {name: unet, options: {width: 4}}}
data: {image_size: 32, resize: stretch}
train: {epochs: 12, batch_size: 4, lr: 1e-2, loss: {dice: 1, cross_entropy: 1}, validate_every: 12}
predict: {overlap: 0, mirror: false}
"""
SITES = ("north", "south")


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory,
    make_data_in: Callable[..., Path],
    guidino_once: Callable[..., None],
    no_figures: None,
) -> Path:
    """A folder with `data` (24 validation cases at two sites, 6 for testing) and `run`, which knows it well."""
    folder = tmp_path_factory.mktemp("trained")
    data = make_data_in(folder, "data", train=12, val=24, test=6)
    manifest = json.loads((data / "cases.json").read_text())
    for number, case in enumerate(manifest["cases"]):
        case["fields"] = {"site": SITES[number % 2], "scanner": "" if number == 15 else "x"}
    (data / "cases.json").write_text(json.dumps(manifest))
    (folder / "p.yaml").write_text(_PRESET)
    guidino_once("train", "--preset", folder / "p.yaml", "--data", data, "-o", folder / "run", "--device", "cpu")
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run, for which nothing was fitted."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path / "run"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def mask(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_predict_lists_the_masks_worst_first(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    outcome = guidino("predict", run, trained / "data", "-o", out)
    assert outcome.code == 0
    assert f"review list, worst first by mean probability: {out}/review.csv" in outcome.stderr
    assert (
        f"expected Dice left out: nothing was fitted for {run}; fit it on validation cases: guidino tune-risk {run}"
        in (outcome.stderr)
    )
    found = rows(out / "review.csv")
    values = [float(row["mean_probability"]) for row in found]
    assert values == sorted(values)
    assert [row["rank"] for row in found] == ["1", "2", "3", "4", "5", "6"]
    assert {row["case"] for row in found} == {path.stem for path in out.glob("*.png")}
    assert [row["expected_dice"] + row["agreement"] + row["contrast"] for row in found] == [""] * 6


def test_the_scores_of_the_list_are_those_of_the_saved_probabilities(
    trained: Path, run: Path, guidino: Any, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    guidino("predict", run, trained / "data", "-o", out, "--save-probabilities")
    for row in rows(out / "review.csv"):
        p = np.load(out / "probabilities" / f"{row['case']}.npz")["probabilities"][1].astype(float)
        inside = mask(out / row["mask"]) > 0
        assert float(row["mean_probability"]) == pytest.approx(p[inside].mean(), abs=2e-3)
        assert float(row["soft_dice"]) == pytest.approx(2 * p[inside].sum() / (p.sum() + inside.sum()), abs=2e-3)


def test_the_page_has_pictures_and_loads_nothing(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    guidino("predict", run, trained / "data", "-o", out, "--split", "all")
    page = (out / "review.html").read_text()
    assert "Review: 42 masks, worst first" in page
    assert "Pictures of the worst 12" in page
    assert page.count("<img") == page.count('src="data:image/webp;base64,') == 12
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<tr>") == 43
    worst = rows(out / "review.csv")[0]["case"]
    assert f"1. {worst}</b>" in page


def test_an_image_that_cannot_be_read_is_named_on_the_page_and_never_listed_as_a_mask(
    trained: Path, run: Path, guidino: Any, tmp_path: Path
) -> None:
    images = tmp_path / "images"
    shutil.copytree(trained / "data" / "images", images)
    (images / "bad.png").write_bytes(b"no picture")
    outcome = guidino("predict", run, images, "-o", tmp_path / "out")
    assert outcome.code == 6
    assert "1 image without a mask: see failed.jsonl" in (tmp_path / "out" / "review.html").read_text()
    assert "bad" not in {row["case"] for row in rows(tmp_path / "out" / "review.csv")}


def test_an_empty_mask_comes_first(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(trained / "data" / "images", images)
    Image.fromarray(np.full((40, 48, 3), 20, dtype=np.uint8)).save(images / "zz_dark.png")
    assert guidino("predict", run, images, "-o", tmp_path / "out", "--post", "min=0.07").code == 0
    first = rows(tmp_path / "out" / "review.csv")[0]
    assert not mask(tmp_path / "out" / "zz_dark.png").any()
    assert (first["case"], first["mean_probability"], first["soft_dice"]) == ("zz_dark", "0.0000", "0.0000")


def test_a_later_call_lists_the_masks_of_both(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    images, out = trained / "data" / "images", tmp_path / "out"
    assert guidino("predict", run, images / "case0.png", images / "case1.png", "-o", out).code == 0
    assert guidino("predict", run, images, "-o", out, "--skip-existing").code == 0
    assert len(rows(out / "review.csv")) == 42


def test_shards_list_all_masks_once_all_are_done(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert guidino("predict", run, trained / "data", "-o", out, "--shard", "1/2").code == 0
    assert not (out / "review.csv").exists()
    assert guidino("predict", run, trained / "data", "-o", out, "--shard", "2/2").code == 0
    assert len(rows(out / "review.csv")) == 6


def test_an_ensemble_is_sorted_by_agreement(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    weights = load_file(other / "best" / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    save_file(
        {
            name: value + 0.05 * torch.randn(value.shape, generator=generator) if value.is_floating_point() else value
            for name, value in weights.items()
        },
        other / "best" / "model.safetensors",
    )
    outcome = guidino("predict", run, trained / "data", "-o", tmp_path / "out", "--ensemble", other)
    assert "worst first by agreement" in outcome.stderr
    found = [float(row["agreement"]) for row in rows(tmp_path / "out" / "review.csv")]
    assert found == sorted(found)
    assert 0 < min(found) < 1
    # By hand for one case: Dice of each run's own mask with that of the average.
    case = rows(tmp_path / "out" / "review.csv")[0]
    own = []
    for path, name in ((run, "a"), (other, "b")):
        guidino("predict", path, trained / "data", "-o", tmp_path / name)
        own.append(mask(tmp_path / name / case["mask"]) > 0)
    joint = mask(tmp_path / "out" / case["mask"]) > 0
    dices = [2 * (item & joint).sum() / (item.sum() + joint.sum()) for item in own]
    assert float(case["agreement"]) == pytest.approx(np.mean(dices), abs=1e-4)


def test_strips_are_scored_like_whole_images(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    guidino("predict", run, trained / "data", "-o", tmp_path / "whole")
    guidino("predict", run, trained / "data", "-o", tmp_path / "strips", "--set", "predict.memory_gb=1e-6")
    whole, strips = (rows(tmp_path / name / "review.csv") for name in ("whole", "strips"))
    assert [row["case"] for row in strips] == [row["case"] for row in whole]
    for one, other in zip(whole, strips, strict=True):
        assert float(one["soft_dice"]) == pytest.approx(float(other["soft_dice"]), abs=2e-3)


def test_tune_risk_fits_an_expected_dice_that_predict_writes(
    trained: Path, run: Path, guidino: Any, tmp_path: Path
) -> None:
    outcome = guidino("tune-risk", run)
    assert outcome.code == 0, outcome.stderr
    fitted = json.loads((run / "risk.json").read_text())
    assert (fitted["cases"], fitted["outer"], fitted["inner"]) == (24, None, None)
    guidino("predict", run, trained / "data", "-o", tmp_path / "out")
    found = rows(tmp_path / "out" / "review.csv")
    fit = fitted["expected_dice"]
    assert fit is not None, outcome.stdout
    assert f"expected Dice: error {fit['error']:.3f} on 24 cases" in outcome.stdout
    assert {row["expected_dice_error"] for row in found} == {f"{fit['error']:.4f}"}
    assert all(0 <= float(row["expected_dice"]) <= 1 for row in found)


def test_bounds_are_fitted_and_the_masks_are_nested(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    outcome = guidino("tune-risk", run, "--risk", "0.1")
    assert outcome.code == 0, outcome.stderr
    assert "on average over new cases" in " ".join(outcome.stdout.split())
    fitted = json.loads((run / "risk.json").read_text())
    bounds = {side: fitted[side]["groups"][""]["a"] for side in ("outer", "inner")}
    assert {side: bound["loss"] for side, bound in bounds.items()} == {"outer": "fnr", "inner": "fdr"}
    out = tmp_path / "out"
    outcome = guidino("predict", run, trained / "data", "-o", out, "--risk", "--save-probabilities", "--values", "255")
    assert outcome.code == 0, outcome.stderr
    assert (
        "outer/: outer masks; the share of the true region outside of the outer mask is at most 0.1" in outcome.stderr
    )
    for row in rows(out / "review.csv"):
        outer, middle, inner = (mask(folder / row["mask"]) for folder in (out / "outer", out, out / "inner"))
        assert set(np.unique(outer)) <= {0, 255}
        assert ((outer >= middle) & (middle >= inner)).all()
        p = np.load(out / "probabilities" / f"{row['case']}.npz")["probabilities"][1]
        sure = np.abs(p.astype(float) - bounds["outer"]["threshold"]) > 1e-3
        assert ((outer > 0) == ((p >= bounds["outer"]["threshold"]) | (middle > 0)))[sure].all()


def test_the_stated_losses_are_those_of_the_masks_that_predict_writes(
    trained: Path, run: Path, guidino: Any, tmp_path: Path
) -> None:
    guidino("tune-risk", run, "--risk", "0.1")
    guidino("predict", run, trained / "data", "-o", tmp_path / "out", "--risk", "--split", "val")
    fitted = json.loads((run / "risk.json").read_text())
    missed, wrong, areas = [], [], []
    for row in rows(tmp_path / "out" / "review.csv"):
        truth = mask(trained / "data" / "masks" / row["mask"]) > 0
        outer, inner = (mask(tmp_path / "out" / side / row["mask"]) > 0 for side in ("outer", "inner"))
        missed.append(1 - (outer & truth).sum() / truth.sum())
        wrong.append((inner & ~truth).sum() / max(inner.sum(), 1))
        areas.append(outer.sum() / truth.sum())
    assert len(missed) == 24
    outer, inner = (fitted[side]["groups"][""]["a"] for side in ("outer", "inner"))
    assert outer["loss_of_region"] == pytest.approx(np.mean(missed))
    assert inner["loss_of_region"] == pytest.approx(np.mean(wrong))
    assert outer["area_median"] == pytest.approx(np.median(areas))
    assert (sum(missed) + 1) / 25 <= 0.1


def test_each_group_gets_its_own_bound(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    outcome = guidino("tune-risk", run, "--risk", "0.2", "--of", "fnr", "--group", "site")
    assert outcome.code == 0, outcome.stderr
    groups = json.loads((run / "risk.json").read_text())["outer"]["groups"]
    assert {name: found["a"]["cases"] for name, found in groups.items()} == {"north": 12, "south": 12}
    known = guidino("predict", run, trained / "data", "-o", tmp_path / "a", "--risk")
    unknown = guidino("predict", run, trained / "data" / "images", "-o", tmp_path / "b", "--risk")
    assert (known.code, unknown.code) == (0, 0)
    assert "most cautious" not in known.stderr
    assert "the site of the images is not known: each gets the most cautious of the thresholds" in unknown.stderr
    for path in (tmp_path / "a" / "outer").glob("*.png"):
        assert (mask(tmp_path / "b" / "outer" / path.name) >= mask(path)).all()


def test_a_second_loss_is_added_to_the_first(run: Path, guidino: Any) -> None:
    guidino("tune-risk", run, "--risk", "0.1", "--of", "fnr")
    outcome = guidino("tune-risk", run, "--risk", "0.2", "--of", "fpr")
    assert "the bound of the outer masks that was fitted before is kept" in outcome.stderr
    fitted = json.loads((run / "risk.json").read_text())
    assert fitted["outer"]["groups"][""]["a"]["risk"] == 0.1
    assert fitted["inner"]["groups"][""]["a"]["loss"] == "fpr"


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--risk 0.03", 3, "24 validation cases, but a level of 0.03 needs 33 .* or a level of 0.04 or more"),
        ("--risk 0.05 --group site", 3, "12 validation cases of group north, but a level of 0.05 needs 19"),
        ("--risk 1.5", 2, "--risk 1.5: expected a share above 0 and below 1"),
        ("--risk 0", 2, "--risk 0: expected a share above 0 and below 1"),
        ("--risk nan", 2, "--risk nan: expected a share above 0 and below 1"),
        ("--risk 0.1 --of fnrr", 2, "unknown loss 'fnrr'; did you mean 'fnr'"),
        ("--risk 0.1 --of fdr,fpr", 2, "--of fdr,fpr: names two losses of the inner mask; give fdr or fpr"),
        ("--risk 0.1 --of fnr,fnr", 2, "--of fnr,fnr: names fnr twice; give it once"),
        ("--risk 0.1 --group hospital", 2, r"unknown column 'hospital'.*known: scanner, site"),
        ("--risk 0.1 --group scanner", 3, r"1 validation case without scanner \(case15\)"),
        ("--group site", 2, "--group is for bounds: add a level, such as --risk 0.1"),
        ("--of fnr", 2, "--of is for bounds: add a level"),
    ],
)
def test_bad_levels_losses_and_groups_are_one_line(
    words: str, code: int, message: str, run: Path, guidino: Any
) -> None:
    outcome = guidino("tune-risk", run, *words.split())
    assert (outcome.code, outcome.stderr.count("\n"), outcome.stdout) == (code, 1, "")
    assert re.search(message, outcome.stderr), outcome.stderr
    assert not (run / "risk.json").exists()


def test_a_group_of_cases_without_columns_is_one_line(run: Path, make_data: Any, guidino: Any) -> None:
    data = make_data("plain", val=24)
    outcome = guidino("tune-risk", run, "--risk", "0.1", "--group", "nope", "--data", data)
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert "--group nope: the validation cases have no columns" in outcome.stderr
    assert "prepare it from a table that has the column" in outcome.stderr


def test_without_validation_cases_nothing_is_fitted(run: Path, make_data: Any, guidino: Any) -> None:
    outcome = guidino("tune-risk", run, "--risk", "0.1", "--data", make_data("other", val=0))
    assert (outcome.code, outcome.stderr.count("\n")) == (3, 1)
    assert "no labelled validation cases" in outcome.stderr


def test_risk_is_refused_before_it_was_fitted_and_after_other_settings(
    trained: Path, run: Path, guidino: Any, tmp_path: Path
) -> None:
    words = ("predict", run, trained / "data", "-o", tmp_path / "out", "--risk")
    outcome = guidino(*words)
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert f"--risk: nothing was fitted for {run}; fit it on validation cases: guidino tune-risk {run} --risk 0.1" in (
        outcome.stderr
    )
    guidino("tune-risk", run)
    assert "--risk: only the expected Dice was fitted" in guidino(*words).stderr
    guidino("tune-risk", run, "--risk", "0.1")
    outcome = guidino(*words, "--set", "predict.mirror=true")
    assert (outcome.code, outcome.stderr.count("\n")) == (2, 1)
    assert "was fitted for predict.mirror=false, now it is true" in outcome.stderr
    assert "leave out --post" in guidino(*words, "--post", "fill").stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_fit_is_one_line(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    guidino("tune-risk", run, "--risk", "0.1")
    content = json.loads((run / "risk.json").read_text())
    for change in (
        "{",
        json.dumps(content | {"cases": "many"}),
        json.dumps(content | {"outer": {"field": "", "groups": {}}}),
    ):
        (run / "risk.json").write_text(change)
        outcome = guidino("predict", run, trained / "data", "-o", tmp_path / "out", "--risk")
        assert (outcome.code, outcome.stderr.count("\n")) == (3, 1), outcome.stderr
        assert "risk.json: damaged" in outcome.stderr
        assert "guidino tune-risk" in outcome.stderr


def test_masks_of_other_thresholds_are_not_mixed(trained: Path, run: Path, guidino: Any, tmp_path: Path) -> None:
    out, images = tmp_path / "out", trained / "data" / "images"
    guidino("tune-risk", run, "--risk", "0.1")
    guidino("predict", run, images / "case0.png", "-o", out, "--risk")
    guidino("tune-risk", run, "--risk", "0.3")
    outcome = guidino("predict", run, images, "-o", out, "--risk", "--skip-existing")
    assert outcome.code == 2
    assert "its masks were made with risk" in outcome.stderr


def test_an_ensemble_of_folds_cannot_be_fitted_on_cases_that_a_member_has_seen(
    make_data: Any, tmp_path: Path, guidino: Any
) -> None:
    data = make_data("folds", train=20, val=0, test=2, fold_count=2)
    runs = [make_run(tmp_path / f"fold{fold}", data, fold=fold) for fold in (0, 1)]
    outcome = guidino("tune-risk", runs[0], "--ensemble", runs[1], "--risk", "0.2")
    assert (outcome.code, outcome.stderr.count("\n")) == (3, 1)
    assert f"{runs[1]}: was trained on 10 of the 10 validation cases" in outcome.stderr
    assert guidino("tune-risk", runs[0], "--risk", "0.9").code in {0, 3}


def make_run(path: Path, data: Path, *, fold: int | None = None, classes: int = 2) -> Path:
    """A run with random weights."""
    settings: dict[str, Any] = yaml.safe_load(_PRESET)
    settings["data"]["fold"] = fold
    del settings["description"]
    config = with_data_root(parse_config(settings), data)
    torch.manual_seed(0)
    model = build_model(config.model, num_classes=classes)
    folder = RunFolder(path)
    folder.create(config, run_facts(model, classes=["background", "a", "b"][:classes], data=data))
    folder.save_weights(model)
    return path


def test_several_classes_get_a_folder_each(make_data: Any, tmp_path: Path, guidino: Any) -> None:
    data = make_data("three", val=20, test=3, num_classes=3)
    run, out = make_run(tmp_path / "three-run", data, classes=3), tmp_path / "out"
    # Random weights: a level of one half is held by something between the mask and the whole image.
    outcome = guidino("tune-risk", run, "--risk", "0.5", "--of", "fnr")
    assert outcome.code == 0, outcome.stderr
    outcome = guidino("predict", run, data, "-o", out, "--risk")
    assert outcome.code == 0, outcome.stderr
    labels = mask(next(out.glob("*.png")))
    for index in (1, 2):
        outer = mask(out / "outer" / f"class_{index}" / next(out.glob("*.png")).name)
        assert ((labels == index) <= (outer > 0)).all()
