"""`guidino register` through the command line: fields, warped images, reports, and what cannot be registered."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from guidino_cli.engine.features.vectors import random_twin
from guidino_cli.models import build_backbone

Guidino = Callable[..., Any]
QUICK = ("--grid", "4", "--steps", "5", "--no-figures", "--device", "cpu")
RANDOM = ("--backbone", "random", "--px", "32", "--components", "4")


def texture(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 2)
    return np.asarray((128 + 60 * noise / np.abs(noise).max()).astype(np.uint8))


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".png":
        Image.fromarray(values).save(path)
    else:
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, Path, Path, Path]:
    """A picture, the same moved by 6 columns, and masks of a square in both."""
    moving = texture((60, 72))
    mask = np.zeros(moving.shape, dtype=np.uint8)
    mask[20:40, 30:50] = 255
    parts = {"moving": moving, "fixed": np.roll(moving, 6, axis=1), "fixed_mask": np.roll(mask, 6, axis=1)}
    parts["moving_mask"] = mask
    folder = tmp_path / "in"
    return tuple(  # type: ignore[return-value]
        save(folder / f"{name}.png", parts[name]) for name in ("fixed", "moving", "fixed_mask", "moving_mask")
    )


@pytest.fixture
def volumes(tmp_path: Path) -> tuple[Path, Path]:
    moving = texture((20, 22, 24))
    return save(tmp_path / "in/fixed.nii.gz", np.roll(moving, 2, axis=1)), save(tmp_path / "in/moving.nii.gz", moving)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def write_table(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_pictures_are_registered_and_their_labels_scored(
    images: tuple[Path, ...], tmp_path: Path, guidino: Guidino
) -> None:
    fixed, moving, fixed_mask, moving_mask = images
    out = tmp_path / "out"
    masks = ("--fixed-mask", fixed_mask, "--moving-mask", moving_mask)
    outcome = guidino("register", fixed, moving, "-o", out, *masks, "--grid", 4, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    (row,) = rows(out / "report.csv")
    # 14 of 20 columns overlap.
    assert float(row["dice_before"]) == pytest.approx(0.7)
    assert float(row["dice_after"]) > 0.93
    assert float(row["correlation_after"]) > float(row["correlation_before"]) + 0.2
    assert (row["unit"], row["status"]) == ("px", "ok")
    field = np.asarray(nibabel.load(out / "displacement.nii.gz").dataobj)
    # What lies at column 40 of the fixed image lies at column 34 of the moving one.
    assert field[36:60, 10:50, 0, 0, 0].mean() == pytest.approx(-6, abs=0.5)
    warped = np.asarray(Image.open(out / "warped.png")).astype(float)
    inside = (slice(6, -6), slice(12, -12))
    before = np.abs(np.asarray(Image.open(moving)).astype(float) - np.asarray(Image.open(fixed)))[inside].mean()
    assert np.abs(warped - np.asarray(Image.open(fixed)))[inside].mean() < before / 4
    assert np.unique(np.asarray(Image.open(out / "warped_mask.png"))).tolist() == [0, 255]
    assert {"figure.png", "report.html", "report.json", "labels.csv", "result.json"} <= {
        path.name for path in out.iterdir()
    }
    assert [item["label"] for item in rows(out / "labels.csv")] == ["255"]


@pytest.mark.parametrize("features", ["dino", "both"])
def test_features_of_a_backbone_register_volumes(
    features: str, volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    outcome = guidino("register", *volumes, "-o", tmp_path / "out", "-f", features, *RANDOM, *QUICK, "--json")
    assert outcome.code == 0, outcome.stderr
    report = json.loads(outcome.stdout)
    assert report["settings"]["features"] == features
    assert len(report["settings"]["backbone_sha256"]) == 64
    assert report["results"][0]["scores"]["feature_seconds"] > 0
    assert nibabel.load(tmp_path / "out/warped.nii.gz").shape == (20, 22, 24)
    assert not (tmp_path / "out/figure.png").exists()


def test_random_weights_have_the_shape_of_the_backbone_and_differ_by_seed(
    volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    digests = []
    for seed in (0, 0, 1):
        random = ("--random-weights", seed, "--px", "28", "--components", "4")
        outcome = guidino(
            "register", *volumes, "-o", tmp_path / "out", "-f", "dino", *random, *QUICK, "--json", "--overwrite"
        )
        assert outcome.code == 0, outcome.stderr
        settings = json.loads(outcome.stdout)["settings"]
        assert settings["backbone"] == f"random, seed {seed}, in the shape of guidino-tiny"
        digests.append(settings["backbone_sha256"])
    assert digests[0] == digests[1] != digests[2]
    # The control of the probes is the same network.
    twin = random_twin(build_backbone("guidino-tiny", {}, offline=True, frozen=True), seed=1)
    assert twin.identity["sha256"] == digests[2]


def test_a_volume_of_two_cells_along_an_axis_is_registered(tmp_path: Path, guidino: Guidino) -> None:
    thin = texture((24, 22, 5))
    pair = save(tmp_path / "in/thin.nii.gz", thin), save(tmp_path / "in/moved.nii.gz", np.roll(thin, 2, axis=0))
    outcome = guidino("register", *pair, "-o", tmp_path / "out", *QUICK)
    assert outcome.code == 0, outcome.stderr
    (row,) = rows(tmp_path / "out/report.csv")
    assert float(row["correlation_after"]) > float(row["correlation_before"])


def test_a_table_goes_on_after_a_bad_pair_and_names_it(
    images: tuple[Path, ...], tmp_path: Path, guidino: Guidino
) -> None:
    lines = ["name,fixed,moving", "one,fixed.png,moving.png", "two,fixed.png,gone.png", "three,moving.png,fixed.png"]
    table = write_table(images[0].parent / "pairs.csv", lines)
    outcome = guidino("register", table, "-o", tmp_path / "out", *QUICK)
    assert outcome.code == 6
    assert "gone.png: no such file" in outcome.stderr
    assert "1 pair of 3 could not be registered and is in no mean: two" in outcome.stderr
    assert [(row["name"], row["status"]) for row in rows(tmp_path / "out/report.csv")] == [
        ("one", "ok"),
        ("three", "ok"),
        ("two", "failed"),
    ]
    assert json.loads((tmp_path / "out/report.json").read_text())["failed"].keys() == {"two"}


def test_pairs_of_the_same_settings_are_kept(images: tuple[Path, ...], tmp_path: Path, guidino: Guidino) -> None:
    table = write_table(images[0].parent / "pairs.csv", ["name,fixed,moving", "one,fixed.png,moving.png"])
    out = tmp_path / "out"
    assert guidino("register", table, "-o", out, *QUICK).code == 0
    before = (out / "one/displacement.nii.gz").stat().st_mtime_ns
    assert guidino("register", table, "-o", out, *QUICK).code == 2
    assert guidino("register", table, "-o", out, *QUICK, "--skip-existing").code == 0
    assert (out / "one/displacement.nii.gz").stat().st_mtime_ns == before
    outcome = guidino("register", table, "-o", out, *QUICK, "--skip-existing", "--smoothness", 2)
    assert (outcome.code, "made with other settings" in outcome.stderr) == (3, True)


def test_changes_have_their_unit_and_settings_are_those_that_matter() -> None:
    from guidino_cli.commands.register_report import describe_changes, describe_settings, summarize_pairs

    def scores(dice: float, hd95: float) -> dict[str, Any]:
        values = {"dice": dice, "hd95": hd95, "asd": None, "correlation": 0.5}
        return {"unit": "mm"} | {f"{key}_{when}": values[key] for key in values for when in ("before", "after")}

    results = [{"scores": scores(0.5, 4) | {"dice_after": 0.7}}, {"scores": scores(0.5, 4) | {"hd95_after": 2}}]
    lines = describe_changes({"results": results, "summary": summarize_pairs(results)})
    assert lines[0].startswith("Dice: 0.500 before, 0.600 after: +0.100 (+0.000 to +0.200, 95 % bootstrap over 2 pairs")
    assert lines[1].startswith("HD95: 4.00 mm before, 3.00 mm after: -1.000 mm (-2.000 to +0.000,")
    settings = {"features": "dino", "ignore_headers": False, "window": None, "backbone_sha256": "0123456789abcdef"}
    assert describe_settings(settings) == "ConvexAdam. Settings: features dino, backbone-sha256 0123456789ab"
    assert describe_settings({"network": "runs/a", "diffeomorphic": True}).startswith(
        "A network. Settings: network runs/a"
    )


def test_a_shared_pca_is_written_and_taken_again(volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino) -> None:
    table = write_table(
        volumes[0].parent / "pairs.csv", ["fixed,moving", "fixed.nii.gz,moving.nii.gz", "moving.nii.gz,fixed.nii.gz"]
    )
    choice = ("-f", "dino", *RANDOM, *QUICK)
    assert guidino("register", table, "-o", tmp_path / "first", *choice, "--pca", "shared").code == 0
    pca = tmp_path / "first/pca.npz"
    assert guidino("register", table, "-o", tmp_path / "again", *choice, "--pca", pca).code == 0
    fields = [
        np.asarray(nibabel.load(tmp_path / name / "moving-to-fixed/displacement.nii.gz").dataobj)
        for name in ("first", "again")
    ]
    assert np.array_equal(*fields)
    other = ("-f", "dino", "--backbone", "guidino-tiny", *QUICK)
    outcome = guidino("register", table, "-o", tmp_path / "other", *other, "--pca", pca)
    assert (outcome.code, "was fitted to tokens of backbone" in outcome.stderr) == (2, True)


def test_pairs_that_are_added_are_registered_with_the_same_shared_pca(
    volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    save(volumes[0].parent / "third.nii.gz", texture((20, 22, 24), seed=7))
    lines = ["name,fixed,moving", "one,fixed.nii.gz,moving.nii.gz"]
    table, out = write_table(volumes[0].parent / "pairs.csv", lines), tmp_path / "out"
    choice = ("-f", "dino", *RANDOM, *QUICK, "--pca", "shared")
    assert guidino("register", table, "-o", out, *choice).code == 0
    first = (out / "pca.npz").read_bytes()
    write_table(table, [*lines, "two,fixed.nii.gz,third.nii.gz"])
    assert guidino("register", table, "-o", out, *choice, "--skip-existing").code == 0
    assert (out / "pca.npz").read_bytes() == first
    with np.load(out / "pca.npz") as content:
        numbers = dict(content)
    np.savez(out / "pca.npz", **{**numbers, "basis": 2 * numbers["basis"]})
    outcome = guidino("register", table, "-o", out, *choice, "--skip-existing")
    assert (outcome.code, "made with other settings" in outcome.stderr) == (3, True)


def test_pairs_that_were_kept_without_figures_are_no_error(
    images: tuple[Path, ...], tmp_path: Path, guidino: Guidino
) -> None:
    words = ("register", images[0], images[1], "-o", tmp_path / "out", *QUICK)
    assert guidino(*words).code == 0
    figures = [word for word in words if word != "--no-figures"]
    assert guidino(*figures, "--skip-existing").code == 0
    assert "Registration of 1 pair" in (tmp_path / "out/report.html").read_text()


def test_a_moving_volume_on_another_grid_is_refused_or_resampled(
    volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    coarse = save(tmp_path / "in/coarse.nii.gz", texture((10, 11, 12)), np.diag([2.0, 2, 2, 1]))
    outcome = guidino("register", volumes[0], coarse, "-o", tmp_path / "out", *QUICK)
    assert outcome.code == 3
    assert "coarse.nii.gz: is on another grid: 10x11x12 of 2x2x2 mm" in outcome.stderr
    assert "20x22x24 of 1x1x1 mm; --onto fixed" in outcome.stderr
    outcome = guidino("register", volumes[0], coarse, "-o", tmp_path / "out", *QUICK, "--onto", "fixed")
    assert outcome.code == 0, outcome.stderr
    assert "coarse.nii.gz resampled to the grid of fixed.nii.gz" in outcome.stderr
    assert nibabel.load(tmp_path / "out/warped.nii.gz").shape == (20, 22, 24)


def test_a_volume_that_is_mirrored_in_its_file_is_the_same_volume(
    volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    values = np.asarray(nibabel.load(volumes[0]).dataobj)
    mirrored = save(
        tmp_path / "in/mirrored.nii.gz",
        np.ascontiguousarray(values[::-1]),
        np.array([[-1, 0, 0, 19], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
    )
    outcome = guidino("register", volumes[0], mirrored, "-o", tmp_path / "out", *QUICK)
    assert outcome.code == 0, outcome.stderr
    (row,) = rows(tmp_path / "out/report.csv")
    assert float(row["correlation_before"]) == pytest.approx(1)
    assert float(row["largest_displacement"]) < 0.05


BAD_FILES = {
    "pictures of different sizes": (("fixed.png", "small.png"), (), 3, "is 40x40 px (width x height)"),
    "picture with volume": (("fixed.png", "volume.nii.gz"), (), 3, "register images of one kind"),
    "constant": (("fixed.png", "flat.png"), (), 3, "flat.png: all pixels are 7"),
    "too thin": (("thin.nii.gz", "thin.nii.gz"), (), 3, "has 4 pixels along z, which is no more than one cell"),
    "time points": (("series.nii.gz", "volume.nii.gz"), (), 3, "has 3 channels or time points, expected one"),
    "missing": (("fixed.png", "gone.png"), (), 3, "gone.png: no such file"),
    "text": (("fixed.png", "text.png"), (), 3, "text.png: cannot be read as an image"),
    "array": (("fixed.png", "array.npy"), (), 3, "array.npy: an array has no voxel size; save it as NIfTI"),
    "one mask": (("fixed.png", "fixed.png"), ("--fixed-mask", "mask.png"), 2, "given without --moving-mask"),
    "labels of another grid": (
        ("fixed.png", "fixed.png"),
        ("--fixed-mask", "small.png", "--moving-mask", "mask.png"),
        3,
        "small.png: is 40x40x1, its volume fixed.png is 72x60x1",
    ),
    "one image": (("fixed.png",), (), 2, "the image to bring to it is missing"),
    "table and image": (("pairs.csv", "fixed.png"), (), 2, "is a table of pairs"),
    "features": (("fixed.png", "fixed.png"), ("-f", "sift"), 2, "expected mind, dino or both"),
    "backbone of mind": (("fixed.png", "fixed.png"), ("--backbone", "random"), 2, "MIND needs no backbone"),
    "seed of mind": (
        ("fixed.png", "fixed.png"),
        ("--random-weights", "0"),
        2,
        "--random-weights is for --features dino",
    ),
    "huge seed": (
        ("fixed.png", "fixed.png"),
        ("-f", "dino", "--random-weights", str(10**30)),
        2,
        "than or equal to 4294967295",
    ),
    "weights": (
        ("fixed.png", "fixed.png"),
        ("-f", "dino", "--backbone", "dinov3", "--weights", "nobody/has-this", "--offline"),
        4,
        "nobody/has-this: not in the local cache, and offline; use a local folder or file (--weights /path)",
    ),
    "smoothness": (("fixed.png", "fixed.png"), ("--smoothness", "inf"), 2, "--smoothness inf: expected a number of 0"),
    "onto": (("fixed.png", "fixed.png"), ("--onto", "moving"), 2, "expected fixed"),
    "window": (("fixed.png", "fixed.png"), ("--window", "40"), 2, "expected two numbers"),
    "pca": (("fixed.png", "fixed.png"), ("-f", "dino", "--pca", "all"), 2, "expected pair, shared or a file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_input_is_answered_in_one_line(
    name: str, images: tuple[Path, ...], tmp_path: Path, guidino: Guidino
) -> None:
    folder = images[0].parent
    save(folder / "small.png", texture((40, 40)))
    save(folder / "flat.png", np.full((60, 72), 7, dtype=np.uint8))
    save(folder / "mask.png", np.zeros((60, 72), dtype=np.uint8))
    save(folder / "volume.nii.gz", texture((20, 20, 20)))
    save(folder / "thin.nii.gz", texture((20, 20, 4)))
    save(folder / "series.nii.gz", texture((20, 20, 20, 3)))
    (folder / "text.png").write_text("no picture")
    np.save(folder / "array.npy", texture((20, 20, 20)))
    write_table(folder / "pairs.csv", ["fixed,moving", "fixed.png,moving.png"])
    files, options, code, message = BAD_FILES[name]
    words = [folder / word if word.endswith((".png", ".gz", ".csv", ".npy")) else word for word in (*files, *options)]
    outcome = guidino("register", *words, "-o", tmp_path / "out", *QUICK)
    assert (outcome.code, message in outcome.stderr) == (code, True), outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("words", [("a.png", "b.png", "-f", "sift"), ("gone.csv",)])
def test_typos_are_answered_without_torch(words: tuple[str, ...], tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = {["guidino", "register", *words, "-o", str(tmp_path / "out")]}
from guidino_cli.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) in {(2, 1), (3, 1)}
    assert "expected mind, dino or both" in done.stderr or "gone.csv: cannot be read" in done.stderr


def test_voxels_without_a_number_do_not_spoil_the_others(
    volumes: tuple[Path, Path], tmp_path: Path, guidino: Guidino
) -> None:
    values = np.asarray(nibabel.load(volumes[1]).dataobj).astype(np.float32)
    values[3, 4, 5] = np.nan
    moving = save(tmp_path / "in/nan.nii.gz", values)
    outcome = guidino("register", volumes[0], moving, "-o", tmp_path / "out", *QUICK)
    assert outcome.code == 0, outcome.stderr
    assert np.isfinite(np.asarray(nibabel.load(tmp_path / "out/warped.nii.gz").dataobj)).all()
    assert float(rows(tmp_path / "out/report.csv")[0]["correlation_after"]) > 0.5


BAD_TABLES = {
    "no column": (["fixed,target", "a,b"], "has no column moving (found fixed, target)"),
    "no pair": (["fixed,moving"], "has a heading line and no pairs"),
    "blank cell": (["fixed,moving", "fixed.png,"], "pair 1 has no moving image"),
    "one mask": (["fixed,moving,fixed_mask", "fixed.png,moving.png,fixed_mask.png"], "given without moving_mask"),
    "same names": (["fixed,moving", "a/x.png,a/y.png", "b/x.png,b/y.png"], "pairs 1 and 2 are both called y-to-x"),
    "unsafe name": (["name,fixed,moving", "../x,fixed.png,moving.png"], "has a name that is empty or begins with"),
    "pictures and volumes": (
        ["name,fixed,moving", "flat,fixed.png,moving.png", "deep,a.nii.gz,b.nii.gz"],
        "mixes 2-D images, measured in px (pair flat), and volumes, measured in mm (pair deep); split it",
    ),
    "all missing": (["fixed,moving", "gone.png,moving.png"], "none of 1 pair could be registered"),
}


@pytest.mark.parametrize("name", BAD_TABLES)
def test_a_bad_table_is_answered_with_its_name(
    name: str, images: tuple[Path, ...], tmp_path: Path, guidino: Guidino
) -> None:
    lines, message = BAD_TABLES[name]
    table = write_table(images[0].parent / "pairs.csv", lines)
    outcome = guidino("register", table, "-o", tmp_path / "out", *QUICK)
    assert (outcome.code, message in outcome.stderr) == (3, True), outcome.stderr
