"""Shared layers and blocks, and optional libraries."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from guidino_cli.errors import DependencyError
from guidino_cli.models.layers import (
    AnySizeInstanceNorm,
    DropPath,
    InstanceNorm,
    LayerNorm2d,
    import_optional,
    use_any_size_instance_norm,
)


def test_a_normalised_channel_has_mean_zero_and_variance_one_in_every_image() -> None:
    x = torch.tensor([1.0, 3.0]).expand(3, 2, 1, 2) * torch.tensor([1.0, 5.0, 9.0]).view(3, 1, 1, 1)
    y = InstanceNorm(2)(x)
    torch.testing.assert_close(y, torch.tensor([-1.0, 1.0]).expand(3, 2, 1, 2), atol=1e-4, rtol=0)


def test_drop_path_does_nothing_in_evaluation() -> None:
    x = torch.randn(5, 2)
    assert torch.equal(DropPath(0.9).eval()(x), x)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_outside_zero_to_one_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="drop_path"):
        DropPath(share)


def test_a_branch_is_left_out_for_whole_samples_and_kept_ones_grow() -> None:
    torch.manual_seed(0)
    out = DropPath(0.25).train()(torch.ones(4000, 3, 2))
    assert torch.equal(out, out[:, :1, :1].expand_as(out))
    assert sorted(set(out.flatten().tolist())) == pytest.approx([0, 4 / 3])
    # Four standard deviations of the share of 4000 draws.
    assert (out[:, 0, 0] == 0).float().mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 4000) ** 0.5)


@pytest.mark.parametrize("norm", [AnySizeInstanceNorm(2, affine=True), InstanceNorm(2)], ids=["cell", "instance"])
def test_a_single_cell_is_normalised_to_the_bias(norm: AnySizeInstanceNorm) -> None:
    cell = torch.rand(3, 2, 1, 1, requires_grad=True)
    with torch.no_grad():
        norm.bias.copy_(torch.tensor([0.5, -1.0]))
    y = norm(cell)
    y.sum().backward()
    assert torch.equal(y, torch.tensor([0.5, -1.0]).view(1, 2, 1, 1).expand(3, 2, 1, 1))
    assert cell.grad is not None
    assert norm.weight.grad is not None


def test_a_single_cell_without_weights_is_normalised_to_zero() -> None:
    assert torch.equal(AnySizeInstanceNorm(2)(torch.rand(3, 2, 1, 1)), torch.zeros(3, 2, 1, 1))


def test_a_norm_over_channels_is_that_of_each_cell() -> None:
    x = torch.rand(2, 8, 3, 5) * 4 + 1
    out = LayerNorm2d(8, eps=1e-6)(x)
    torch.testing.assert_close(out.mean(dim=1), torch.zeros(2, 3, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(dim=1, correction=0), torch.ones(2, 3, 5), atol=1e-4, rtol=0)


_LOOK = """
import sys
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.config import ModelSettings, ComponentSettings
from guidino_cli.registry import find
for name in SEGMENTERS:
    find("segmenter", name, SEGMENTERS)
optional = {"monai", "einops", "segmentation_models_pytorch", "timm", "torchvision", "transformers"}
print(sorted(optional & set(sys.modules)))
build_model(ModelSettings(ComponentSettings("segformer", {"size": "b0"})), num_classes=2)
print([name for name in sys.modules if name.startswith("torchvision") or "image_processing_segformer" in name])
"""


def test_no_library_is_imported_before_its_network_is_made_and_no_image_processor_at_all() -> None:
    """MONAI takes ten seconds; the class of a network is looked at by commands that never make one."""
    done = subprocess.run([sys.executable, "-c", _LOOK], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]"]


def test_a_module_that_is_there_is_given() -> None:
    assert import_optional("json", extra="none", needed_by="this test").loads("1") == 1


def test_a_missing_module_is_named_with_its_extra() -> None:
    with pytest.raises(DependencyError, match=r"this test needs no_such_package \(.*\): pip install 'guidino\[some\]'"):
        import_optional("no_such_package.nets", extra="some", needed_by="this test")


def test_only_the_norms_are_replaced_and_with_the_same_settings() -> None:
    inner = nn.Sequential(nn.InstanceNorm2d(4, eps=1e-3, affine=True), nn.InstanceNorm2d(4))
    net = use_any_size_instance_norm(nn.Sequential(nn.Conv2d(3, 4, 1), inner, nn.BatchNorm2d(4)))
    assert [type(module) for module in (net[0], net[1][0], net[1][1], net[2])] == [  # type: ignore[index]
        nn.Conv2d,
        AnySizeInstanceNorm,
        AnySizeInstanceNorm,
        nn.BatchNorm2d,
    ]
    first, second = net[1]  # type: ignore[index]
    assert (first.eps, first.affine, second.affine) == (1e-3, True, False)
