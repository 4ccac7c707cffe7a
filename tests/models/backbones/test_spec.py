"""A backbone rebuilt from its spec computes the same maps once its weights are loaded."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.errors import WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.backbones.spec import BackboneSpec, build_from_spec, describe_backbone


def _rebuild(backbone: Any) -> Any:
    """Through JSON, as a run has it."""
    rebuilt = build_from_spec(BackboneSpec(**json.loads(json.dumps(asdict(describe_backbone(backbone))))))
    rebuilt.load_state_dict(backbone.state_dict())
    return rebuilt


@pytest.mark.parametrize("options", [{}, {"layers": [1, 2], "norm": False}, {"scale": 2.0}])
@pytest.mark.parametrize("family", ["dinov3", "dinov2"])
def test_a_rebuilt_backbone_gives_the_same_maps(
    family: str, options: dict[str, Any], dinov3_folder: Path, dinov2_folder: Path
) -> None:
    folder = {"dinov3": dinov3_folder, "dinov2": dinov2_folder}[family]
    backbone = build_backbone(family, {"weights": str(folder), **options}, offline=True)
    image = torch.rand(1, 3, 40, 33)
    rebuilt = _rebuild(backbone)
    assert all(map(torch.equal, rebuilt(image), backbone(image)))
    assert rebuilt.identity == backbone.identity
    assert rebuilt.is_frozen


def test_a_spec_keeps_the_statistics_of_the_weights_folder(dinov3_folder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "own"
    shutil.copytree(dinov3_folder, folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3]}')
    rebuilt = _rebuild(build_backbone("dinov3", {"weights": str(folder)}, offline=True))
    torch.testing.assert_close(rebuilt.normalizer.mean.flatten(), torch.tensor([0.1, 0.2, 0.3]))
    torch.testing.assert_close(rebuilt.normalizer.std.flatten(), torch.tensor([1.0, 2.0, 3.0]))


def test_a_spec_contains_no_local_path(dinov3_folder: Path) -> None:
    backbone = build_backbone("dinov3", {"weights": str(dinov3_folder)}, offline=True)
    assert str(dinov3_folder) not in json.dumps(describe_backbone(backbone).config)


def _damaged(change: Callable[[dict[str, Any]], object]) -> BackboneSpec:
    spec = asdict(describe_backbone(random_dino(hidden_size=32, depth=1, heads=2)))
    change(spec)
    return BackboneSpec(**spec)


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec["config"].pop("model_type"),
        lambda spec: spec["config"].update(model_type="bert"),
        lambda spec: spec["config"].update(hidden_size="wide"),
        lambda spec: spec.update(layers=[7]),
    ],
)
def test_a_damaged_spec_is_refused_in_one_line(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(WeightsError, match=r"cannot be rebuilt as run\.json describes it") as caught:
        build_from_spec(_damaged(change))
    assert "\n" not in str(caught.value)
