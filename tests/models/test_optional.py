"""Optional libraries: imported when they are asked for, named when they are missing; and the norm for single cells."""

import subprocess
import sys

import pytest
from torch import nn

from guidino_cli.errors import DependencyError
from guidino_cli.models.layers import CellNorm
from guidino_cli.models.optional import optional, take_single_cells

_LOOK = """
import sys
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.config import ModelSettings, Part
from guidino_cli.registry import find
for name in SEGMENTERS:
    find("segmenter", name, SEGMENTERS)
optional = {"monai", "einops", "segmentation_models_pytorch", "timm", "torchvision", "transformers"}
print(sorted(optional & set(sys.modules)))
build_model(ModelSettings(Part("segformer", {"size": "b0"})), num_classes=2)
print([name for name in sys.modules if name.startswith("torchvision") or "image_processing_segformer" in name])
"""


def test_no_library_is_imported_before_its_network_is_made_and_no_image_processor_at_all() -> None:
    """MONAI takes ten seconds; the class of a network is looked at by commands that never make one."""
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_a_module_that_is_there_is_given() -> None:
    assert optional("json", extra="none", needed_by="this test").loads("1") == 1


def test_a_missing_module_is_named_with_its_extra() -> None:
    with pytest.raises(DependencyError, match=r"this test needs no_such_package \(.*\): pip install 'guidino\[some\]'"):
        optional("no_such_package.nets", extra="some", needed_by="this test")


def test_only_the_norms_are_replaced_and_with_the_same_settings() -> None:
    inner = nn.Sequential(nn.InstanceNorm2d(4, eps=1e-3, affine=True), nn.InstanceNorm2d(4))
    net = take_single_cells(nn.Sequential(nn.Conv2d(3, 4, 1), inner, nn.BatchNorm2d(4)))
    assert [type(module) for module in (net[0], net[1][0], net[1][1], net[2])] == [  # type: ignore[index]
        nn.Conv2d,
        CellNorm,
        CellNorm,
        nn.BatchNorm2d,
    ]
    first, second = net[1]  # type: ignore[index]
    assert (first.eps, first.affine, second.affine) == (1e-3, True, False)
