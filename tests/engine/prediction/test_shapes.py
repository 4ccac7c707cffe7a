"""Images of another shape than a network was trained on are counted where stretching deforms them."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from guidino_cli.engine.prediction.ensemble import load_ensemble
from guidino_cli.engine.prediction.shapes import ShapeWatch

_RECORDED = Path(__file__).parents[2] / "compatibility" / "run_45086b3" / "guided"
_FACTS = {"data": {"aspect_ratios": [1.2, 1.6]}}


@pytest.mark.parametrize(
    ("size_hw", "is_deformed"),
    [((100, 120), False), ((100, 199), False), ((100, 201), True), ((100, 97), False), ((100, 95), True)],
)
def test_a_quarter_narrower_or_wider_is_another_shape(size_hw: tuple[int, int], is_deformed: bool) -> None:
    watch = ShapeWatch.of_run(_FACTS, resize="stretch")
    watch.add(size_hw)
    assert (watch.warning is not None) == is_deformed


def test_the_line_counts_them_and_names_the_shape_farthest_away() -> None:
    watch = ShapeWatch.of_run(_FACTS, resize="stretch")
    for size_hw in [(100, 140), (100, 78), (100, 60), (300, 225)]:
        watch.add(size_hw)
    assert watch.warning is not None
    assert watch.warning.startswith(
        "3 of 4 images are of another shape than all training images: width/height 0.60, trained on 1.20 to 1.60;"
    )


@pytest.mark.parametrize("resize", ["longer", "shorter", "none"])
def test_nothing_is_said_where_nothing_is_deformed(resize: str) -> None:
    watch = ShapeWatch.of_run(_FACTS, resize=resize)
    watch.add((100, 20))
    assert watch.warning is None


def test_nothing_is_said_of_a_run_that_does_not_know_its_shapes() -> None:
    watch = ShapeWatch.of_run({"data": {}}, resize="stretch")
    watch.add((100, 20))
    assert watch.warning is None


def test_an_ensemble_warns_for_the_run_that_stretches_whichever_comes_first(tmp_path: Path) -> None:
    runs = {resize: tmp_path / resize for resize in ("longer", "stretch")}
    for resize, run in runs.items():
        shutil.copytree(_RECORDED, run)
        settings = yaml.safe_load((run / "config.yaml").read_text())
        settings["data"]["resize"] = resize
        (run / "config.yaml").write_text(yaml.safe_dump(settings))
        facts = json.loads((run / "run.json").read_text())
        facts["data"] |= _FACTS["data"]
        (run / "run.json").write_text(json.dumps(facts))
    for order in (["longer", "stretch"], ["stretch", "longer"]):
        loaded = load_ensemble([runs[name] for name in order], offline=True, device=torch.device("cpu"))
        assert loaded.shapes.known == (1.2, 1.6)
