"""Which mean and standard deviation weights are given, and when they are asked for."""

from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.statistics import IMAGENET, infer_statistics, read_statistics, to_statistics

SATELLITE = ((0.430, 0.411, 0.296), (0.213, 0.156, 0.143))
NORM, META = "local_cls_norm.weight", "storage_tokens"


@pytest.mark.parametrize(
    ("source", "width", "names", "expected"),
    [
        # Meta's ViT-L: the norm of local crops' class tokens tells, also in a renamed file.
        ("dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth", 1024, [META, NORM], SATELLITE),
        ("model.pth", 1024, [META, NORM], SATELLITE),
        ("model.pth", 1024, [META], IMAGENET),
        ("dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth", 1024, [META, NORM], None),
        # Both of Meta's 7B models have the norm: only the name tells.
        ("dinov3_vit7b16_pretrain_lvd1689m-a955f4ea.pth", 4096, [META, NORM], IMAGENET),
        ("dinov3_vit7b16_pretrain_sat493m-a6675841.pth", 4096, [META, NORM], SATELLITE),
        ("model.pth", 4096, [META, NORM], None),
        # timm and Hugging Face do not keep the norm.
        ("vit_large_patch16_dinov3.sat493m.safetensors", 1024, ["reg_token"], SATELLITE),
        ("facebook/dinov3-vitl16-pretrain-lvd1689m", 1024, None, IMAGENET),
        ("weights/l", 1024, None, None),
        # No other width was published from satellite images.
        ("model.pth", 384, [META], IMAGENET),
        ("weights/s", 384, None, IMAGENET),
    ],
)
def test_satellite_weights_of_dinov3_are_told_apart(
    source: str, width: int, names: list[str] | None, expected: Any
) -> None:
    stored = None if names is None else {name: torch.zeros(1) for name in names}
    found = infer_statistics(source, model_type="dinov3_vit", width=width, stored=stored, default=IMAGENET)
    assert found == expected


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ([0.5, 0.5], [0.5, 0.5, 0.5]),
        ([0.5, 0.5, 0.5], None),
        (["0.5", "0.5", "0.5"], [0.5, 0.5, 0.5]),
        ([True, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ([0.5, 0.5, 10**400], [0.5, 0.5, 0.5]),
        ([float("nan"), 0.5, 0.5], [0.5, 0.5, 0.5]),
        ([0.5, 0.5, 0.5], [0.5, 0.5, 0]),
        ([0.5, 0.5, 0.5], [0.5, 0.5, -1]),
        ({"r": 0.5}, 0.5),
    ],
)
def test_statistics_other_than_three_numbers_are_refused(mean: Any, std: Any) -> None:
    with pytest.raises(WeightsError, match="expected three"):
        to_statistics("preprocessor_config.json", mean, std)


@pytest.mark.parametrize("text", ["", "[]", "{", '"a"', "null", "[" * 100_000, "\udcff", '{"rescale_factor": 0}'])
def test_a_damaged_preprocessor_file_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
        read_statistics(tmp_path, source="x", default=IMAGENET)
