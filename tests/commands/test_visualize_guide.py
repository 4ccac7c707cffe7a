"""`guidino visualize-guide`: one picture an image, from a run or from a frozen backbone alone."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.commands.inputs import unique_names
from guidino_cli.config import RunConfig, parse_config
from guidino_cli.engine.prediction.predictor import Predictor
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.metrics.overlap import auroc
from guidino_cli.models import build_model
from guidino_cli.plots.guide import guide_figure
from guidino_cli.plots.tokens import backbone_figure

TINY = {"hidden_size": 16, "depth": 1, "heads": 2, "registers": 1}
RANDOM = [
    "--backbone",
    "random",
    *(word for key in TINY for word in ("-s", f"model.backbone.options.{key}={TINY[key]}")),
]
FAST = ["--scale", "0.2"]

pytestmark = pytest.mark.usefixtures("coarse_figures")


def make_run(
    data: Path, path: Path, *, guided: bool, classes: Sequence[str] = ("background", "polyp"), seed: int = 0
) -> Path:
    """A run with the random weights it began with."""
    settings: dict[str, Any] = {"segmenter": {"name": "unet", "options": {"width": 4}}}
    if guided:
        settings["backbone"] = {"name": "random", "options": TINY}
        settings["guide"] = {"name": "tokenbook", "options": {"prototypes": 4}}
        settings["guide"]["per_class"] = len(classes) > 2
    config: RunConfig = with_data_root(parse_config({"model": settings, "data": {"image_size": 32}}), data)
    torch.manual_seed(seed)
    model = build_model(config.model, num_classes=len(classes))
    folder = RunFolder(path)
    folder.create(config, run_facts(model, classes=list(classes), data=data))
    folder.save_weights(model)
    return path


def save(path: Path, size_hw: tuple[int, int] = (40, 48), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*size_hw, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return save(tmp_path / "images" / "a.png")


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the panels are given."""
    from guidino_cli.commands.visualize import figures as guide_pictures
    from guidino_cli.commands.visualize import tokens as token_pictures

    seen: list[dict[str, Any]] = []

    def guide_spy(view: Any, style: Any) -> Any:
        seen.append({"view": view, "style": style})
        return guide_figure(view, style)

    def token_spy(image: np.ndarray, tokens: Any, **others: Any) -> Any:
        seen.append({"image": image, "tokens": tokens, **others})
        return backbone_figure(image, tokens, **others)

    monkeypatch.setattr(guide_pictures, "guide_figure", guide_spy)
    monkeypatch.setattr(token_pictures, "backbone_figure", token_spy)
    return seen


def test_every_image_of_a_folder_gets_a_picture_and_nothing_is_written_beside_it(
    guidino: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        save(tmp_path / "images" / f"{name}.png")
    monkeypatch.chdir(tmp_path)
    outcome = guidino("visualize-guide", "images", *RANDOM, *FAST)
    assert outcome.code == 0
    names = ["a_backbone.png", "b_backbone.png", "contact_sheet.png", "guides.html"]
    assert sorted(path.name for path in Path("guides").iterdir()) == names
    assert sorted(path.name for path in Path("images").iterdir()) == ["a.png", "b.png"]
    assert outcome.stdout == "2 pictures in guides (NAME_backbone.png); beside them guides.html, contact_sheet.png\n"


@pytest.mark.figures
def test_what_a_run_shows_is_what_it_predicts(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    data = make_data(size_hw=(40, 70))
    run = make_run(data, tmp_path / "run", guided=True)
    image = data / "images" / "case0.png"
    assert guidino("visualize-guide", image, "--run", run, "--truth", data, "-o", tmp_path / "out").code == 0
    model, config, _ = load_run(run)
    result = Predictor.from_config(model, config).segment_file(image)
    view = captured[0]["view"]
    assert (view.labels == result.labels).all()
    assert view.maps[0].values == pytest.approx(result.guide[0].numpy(), abs=1e-6)
    assert view.truth.sum() == 14 * 14
    assert view.maps[0].auroc == pytest.approx(auroc(result.guide[0].numpy(), view.truth > 0))
    assert Image.open(tmp_path / "out" / "case0_guide.png").info["dpi"][0] == pytest.approx(200, abs=0.1)


def test_a_run_without_a_guide_says_what_to_do(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, image: Path
) -> None:
    run = make_run(make_data(), tmp_path / "run", guided=False)
    outcome = guidino("visualize-guide", image, "--run", run, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "trained without a guide" in outcome.stderr
    assert "--overlay" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_a_hugging_face_folder_is_read_offline(
    guidino: Callable[..., Any], dinov3_folder: Path, image: Path, tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    words = ["--weights", dinov3_folder, "--layer", "2", "--offline", *FAST]
    assert guidino("visualize-guide", image, "-o", tmp_path / "out", *words).code == 0
    assert captured[0]["source"] == f"{dinov3_folder}, block 2"


def test_without_a_word_about_it_the_backbone_inside_guidino_is_looked_at(
    guidino: Callable[..., Any], image: Path, tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    assert guidino("visualize-guide", image, "-o", tmp_path / "out", "--offline", *FAST).code == 0
    assert captured[0]["source"].startswith("guidino-tiny")


def test_missing_weights_end_with_4_and_take_no_other_backbone(
    guidino: Callable[..., Any], image: Path, tmp_path: Path
) -> None:
    outcome = guidino(
        "visualize-guide", image, "--offline", "-o", tmp_path / "out", "--weights", "nobody/no-such-model"
    )
    assert outcome.code == 4
    assert "nobody/no-such-model" in outcome.stderr
    assert "guidino weights download embedded" in outcome.stderr
    assert "--backbone guidino-tiny" in " ".join(outcome.stderr.split())
    assert "--set" not in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_an_unreadable_image_is_listed_and_the_others_are_drawn(
    guidino: Callable[..., Any], image: Path, tmp_path: Path
) -> None:
    (image.parent / "broken.jpg").write_bytes(b"no picture")
    outcome = guidino("visualize-guide", image.parent, *RANDOM, *FAST, "-o", tmp_path / "out")
    assert outcome.code == 6
    assert "1 of 2 images could not be drawn" in outcome.stderr
    assert "broken.jpg" in outcome.stderr
    assert [path.name for path in (tmp_path / "out").glob("*_backbone.png")] == ["a_backbone.png"]


def test_nothing_drawn_is_an_error_of_the_data(guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    outcome = guidino("visualize-guide", tmp_path / "broken.jpg", *RANDOM, "-o", tmp_path / "out")
    assert outcome.code == 3


def test_the_patch_is_the_one_asked_for(
    guidino: Callable[..., Any], image: Path, tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    # 48 x 40 pixels become 134 x 112, which is 9 x 7 patches of 16.
    assert guidino("visualize-guide", image, *RANDOM, *FAST, "--at", "47,0", "-o", tmp_path / "out").code == 0
    assert captured[0]["tokens"].patch == (0, 8)
    assert captured[0]["tokens"].similarity.shape == (7, 9)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--at", "48,0"], 3, "outside the image of 48 x 40 pixels"),
        (["--at", "here"], 2, "expected column and row"),
        (["--layer", "2"], 2, "blocks 1..1"),
        (["-s", "model.backbone.options.hidden=16"], 2, "unknown option 'hidden'"),
        (["--truth", "nowhere"], 3, "nowhere: no such file or folder"),
    ],
)
def test_bad_words_end_with_their_code(
    guidino: Callable[..., Any], image: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    outcome = guidino("visualize-guide", image, *RANDOM, *FAST, *words, "-o", tmp_path / "out")
    assert outcome.code == code
    assert message in outcome.stderr
    assert outcome.stderr.count("\n") <= 2


@pytest.mark.parametrize("word", ["--backbone=random", "--layer=1"])
def test_a_run_decides_its_backbone_itself(guidino: Callable[..., Any], image: Path, tmp_path: Path, word: str) -> None:
    outcome = guidino("visualize-guide", image, "--run", tmp_path, word, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "without a run" in outcome.stderr


def test_a_folder_that_holds_something_is_not_written_to(
    guidino: Callable[..., Any], image: Path, tmp_path: Path
) -> None:
    old = save(tmp_path / "out" / "old.png")
    assert guidino("visualize-guide", image, *RANDOM, *FAST, "-o", old.parent).code == 2
    assert guidino("visualize-guide", image, *RANDOM, *FAST, "-o", old.parent, "--overwrite").code == 0
    assert guidino("visualize-guide", image, *RANDOM, *FAST, "-o", image.parent, "--overwrite").code == 2


def test_a_mask_of_another_size_is_an_error_with_both_sizes(
    guidino: Callable[..., Any], image: Path, tmp_path: Path
) -> None:
    mask = tmp_path / "masks" / "a.png"
    mask.parent.mkdir()
    Image.fromarray(np.eye(20, dtype=np.uint8) * 255).save(mask)
    outcome = guidino("visualize-guide", image, *RANDOM, *FAST, "--truth", mask.parent, "-o", tmp_path / "out")
    assert outcome.code == 3
    assert "is 20x20 px (width x height), but the image a.png is 48x40" in outcome.stderr


def test_an_image_without_truth_is_drawn_with_a_warning(
    guidino: Callable[..., Any], image: Path, tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    save(image.with_name("b.png"))
    mask = tmp_path / "masks" / "a_segmentation.png"
    mask.parent.mkdir()
    Image.fromarray(np.eye(40, 48, dtype=np.uint8) * 255).save(mask)
    outcome = guidino("visualize-guide", image.parent, *RANDOM, *FAST, "--truth", mask.parent, "-o", tmp_path / "out")
    assert outcome.code == 0
    assert "no truth for b.png" in outcome.stderr
    assert captured[0]["labels"].sum() == 40
    assert captured[1]["labels"] is None


def test_a_prepared_folder_brings_its_truth_and_its_pictures_have_one_range(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    data = make_data(size_hw=(40, 48))
    run, out = make_run(data, tmp_path / "run", guided=True), tmp_path / "out"
    outcome = guidino("visualize-guide", data, "--split", "train", "--run", run, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert {item["style"].limits for item in captured} == {captured[0]["style"].limits}
    low, high = captured[0]["style"].limits
    values = [item["view"].maps[0].values for item in captured]
    assert low <= min(item.min() for item in values)
    assert high >= max(item.max() for item in values)
    extra = {"contact_sheet.png", "guides.csv", "guides.html", "guides.json", "prototypes.png"}
    assert {path.name for path in out.iterdir()} == {f"case{number}_guide.png" for number in range(4)} | extra
    rows = list(csv.DictReader((out / "guides.csv").open()))
    summary = json.loads((out / "guides.json").read_text())["maps"][0]
    areas = [item["view"].maps[0].auroc for item in captured]
    assert [float(row["auroc"]) for row in rows] == pytest.approx(areas, rel=1e-5)
    assert summary["auroc"]["mean"] == pytest.approx(sum(float(row["auroc"]) for row in rows) / 4, abs=1e-5)
    assert summary["auroc"]["n"] == 4
    assert "4/4" in outcome.stdout


def test_the_page_loads_nothing_from_anywhere_and_holds_every_picture(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_data(size_hw=(40, 48))
    run, out = make_run(data, tmp_path / "run", guided=True), tmp_path / "out"
    assert guidino("visualize-guide", data, "--split", "val", "--run", run, "-o", out).code == 0
    page = (out / "guides.html").read_text(encoding="utf-8")
    # Two panels, a sheet, the prototypes.
    assert page.count('loading="lazy"') == 4
    assert page.count("data:image/webp;base64,") == page.count("<img")
    assert "http" not in page


def test_images_without_foreground_are_told_from_those_with(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data = make_data(size_hw=(40, 48))
    Image.fromarray(np.zeros((40, 48), dtype=np.uint8)).save(data / "masks" / "case4.png")
    run, out = make_run(data, tmp_path / "run", guided=True), tmp_path / "out"
    outcome = guidino("visualize-guide", data, "--split", "val", "--run", run, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert "1/2" in outcome.stdout
    rows = list(csv.DictReader((out / "guides.csv").open()))
    assert [row["auroc"] == "" for row in rows] == [True, False]


@pytest.mark.parametrize(("word", "limits"), [("0,1", (0.0, 1.0)), ("0.4,0.6", (0.4, 0.6)), ("image", None)])
def test_the_range_of_the_colours_is_the_users(
    guidino: Callable[..., Any],
    make_data: Callable[..., Path],
    tmp_path: Path,
    captured: list[dict[str, Any]],
    word: str,
    limits: tuple[float, float] | None,
) -> None:
    data = make_data()
    run = make_run(data, tmp_path / "run", guided=True)
    outcome = guidino("visualize-guide", data, "--run", run, "--range", word, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert captured[0]["style"].limits == limits


def test_each_class_has_its_own_map_target_and_row(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    data = make_data(num_classes=3)
    run = make_run(data, tmp_path / "run", guided=True, classes=["background", "a", "b"])
    outcome = guidino("visualize-guide", data, "--run", run, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    view = captured[0]["view"]
    assert [item.name for item in view.maps] == ["a", "b"]
    assert [int(item.target.sum()) for item in view.maps] == [int((view.truth == number).sum()) for number in (1, 2)]
    rows = list(csv.DictReader((tmp_path / "out" / "guides.csv").open()))
    assert [row["map"] for row in rows] == ["a", "b", "any class"]


def test_a_run_shows_its_own_tokens_where_a_pixel_is_named(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    data = make_data()
    run = make_run(data, tmp_path / "run", guided=True)
    outcome = guidino("visualize-guide", data, "--run", run, "--at", "47,0", "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    (tokens,) = captured[0]["view"].tokens
    # 32 x 32 pixels are 2 x 2 patches of 16.
    assert (tokens.similarity.shape, tokens.patch) == ((2, 2), (0, 1))


def test_two_runs_are_compared_map_by_map(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, captured: list[dict[str, Any]]
) -> None:
    data = make_data()
    one, two = (make_run(data, tmp_path / name, guided=True, seed=seed) for name, seed in (("one", 0), ("two", 1)))
    outcome = guidino("visualize-guide", data, "--run", one, "--compare", two, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    item, style = captured[0]["view"].maps[0], captured[0]["style"]
    assert style.titles == ("run one", "run two")
    assert np.abs(item.values - item.other).max() == pytest.approx(style.max_difference, abs=0.01)
    (row,) = csv.DictReader((tmp_path / "out" / "guides.csv").open())
    assert float(row["auroc_before"]) == pytest.approx(item.other_auroc, abs=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--range", "wide"], "expected all, image, or two numbers"),
        (["--range", "1,0"], "must be the smaller one"),
        (["--compare", "other"], "--compare is for two runs"),
    ],
)
def test_options_that_mean_nothing_are_refused_before_anything_is_read(
    guidino: Callable[..., Any], tmp_path: Path, image: Path, words: list[str], message: str
) -> None:
    outcome = guidino("visualize-guide", image, *RANDOM, *words, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert message in outcome.stderr


@pytest.mark.parametrize("mode", ["L", "RGBA", "P"])
@pytest.mark.parametrize("size", [(3, 5), (900, 31)])
def test_odd_modes_and_sizes_are_drawn(
    guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    run = make_run(make_data(), tmp_path / "run", guided=True)
    path = tmp_path / "odd" / "x.png"
    path.parent.mkdir()
    Image.new("RGB", size, (90, 60, 30)).convert(mode).save(path)
    outcome = guidino("visualize-guide", path, "--run", run, "-o", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
    assert (tmp_path / "out" / "x_guide.png").is_file()


def test_equal_stems_get_different_names() -> None:
    paths = [Path("/x/a.png"), Path("/x/a.jpg"), Path("/y/A.png"), Path("/y/b.png"), Path("/z/x/a.png")]
    assert list(unique_names(paths)) == ["x_a_png", "x_a_jpg", "y_A_png", "b", "x_a_png_2"]
