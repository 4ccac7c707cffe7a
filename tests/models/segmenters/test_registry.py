"""The table of segmenters against their classes, the presets and the documentation."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from guidino_cli.commands.models import run
from guidino_cli.config import load_preset, preset_names
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO, SEGMENTERS
from guidino_cli.registry import find


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_row_states_what_its_class_reads_and_where_a_guide_can_act(name: str) -> None:
    row, segmenter = SEGMENTER_INFO[name], find("segmenter", name, SEGMENTERS)
    assert (row.backbone is not None) == segmenter.uses_backbone
    assert set(row.guided_at) == segmenter.guided_at - (set() if segmenter.reads_image else {"input"})
    assert row.dims == segmenter.dims


def test_every_segmenter_has_a_size_except_the_name_that_stands_for_many() -> None:
    assert [name for name, row in SEGMENTER_INFO.items() if row.size is None] == ["smp"]


def test_every_segmenter_has_a_preset() -> None:
    used = {load_preset(name).model.segmenter.name.partition(":")[0] for name in preset_names()}
    assert set(SEGMENTERS) - used <= {"smp"}


def test_the_documentation_describes_every_segmenter(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    run([], measure=False, side=256, form="markdown")
    missing = [paragraph for paragraph in capsys.readouterr().out.strip().split("\n\n") if paragraph not in page]
    assert not missing, "copy the output of `guidino models --markdown` into docs/models.md"


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("nnunet", {}, 71_815_652),
        ("segdino", {"dense_channels": [384] * 4}, 2_475_937),
        ("dino-unet", {"dense_channels": [384] * 4}, 6_194_527),
        ("meddinov3", {"dense_channels": [768] * 4, "num_classes": 16}, 25_079_248),
        ("u-kan", {}, 6_356_689),
        ("swin-unet", {"window": 7}, 27_168_132),
        ("u-mamba", {}, 47_513_509),
        ("u-mamba", {"widths": [32, 64, 128, 256, 512, 512, 512, 512]}, 64_792_742),
        ("swin-umamba", {}, 27_490_371),
        ("trans-unet", {}, 105_322_001),
        ("sam2-unet", {"dense_channels": [144, 288, 576, 1152]}, 2_555_331),
        ("h2former", {"in_channels": 4}, 33_698_656),
    ],
)
def test_the_page_states_the_number_of_weights_beside_the_authors(name: str, options: dict, count: int) -> None:
    with torch.device("meta"):
        network = find("segmenter", name, SEGMENTERS)(**{"num_classes": 1, **options})
    assert sum(weight.numel() for weight in network.parameters()) == count
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    assert f"{count:,}" in page.partition("## Compared with the authors' code")[2].partition("\n## ")[0]


def test_the_table_imports_no_torch() -> None:
    code = "import json, sys; import guidino_cli.models.segmenters.registry; print(json.dumps('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
