"""MONAI's networks: cut in two they are what they were whole, and they have MONAI's numbers of parameters."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.errors import DependencyError
from guidino_cli.models.base import Segmenter
from guidino_cli.models.segmenters.monai_convolutional import AttentionUNet, DynUNet, SegResNet, UNetPlusPlus
from guidino_cli.models.segmenters.monai_transformers import UNETR, SwinUNETR

Make = Callable[..., Segmenter]
SIDE = 64


def _dynunet(nets: Any) -> nn.Module:
    return nets.DynUNet(
        2, 3, 2, [3] * 5, [1, 2, 2, 2, 2], [2] * 4, filters=[4, 4, 8, 8, 8], deep_supervision=True, deep_supr_num=2
    )


# Our small network, MONAI's of the same widths, and what MONAI has beside it.
PAIRS: dict[str, tuple[Callable[[], Segmenter], Callable[[Any], nn.Module], tuple[str, ...]]] = {
    "dynunet": (lambda: DynUNet(num_classes=2, widths=(4, 4, 8, 8, 8)), _dynunet, ("skip_layers.",)),
    "segresnet": (
        lambda: SegResNet(num_classes=2, width=8, blocks_down=(1, 1, 2)),
        lambda nets: nets.SegResNet(2, 8, 3, 2, dropout_prob=0.2, blocks_down=(1, 1, 2), blocks_up=(1, 1)),
        (),
    ),
    "unetpp": (
        lambda: UNetPlusPlus(num_classes=2, widths=(4, 4, 6, 8, 8, 4)),
        lambda nets: nets.BasicUNetPlusPlus(2, 3, 2, (4, 4, 6, 8, 8, 4), deep_supervision=True),
        (),
    ),
    "attention-unet": (
        lambda: AttentionUNet(num_classes=2, widths=(4, 6, 8, 10)),
        lambda nets: nets.AttentionUnet(2, 3, 2, (4, 6, 8, 10), (2, 2, 2)),
        (),
    ),
    "unetr": (
        lambda: UNETR(num_classes=2, image_size=SIDE, width=4, hidden_size=24, mlp_size=24, heads=2),
        lambda nets: nets.UNETR(3, 2, SIDE, 4, 24, 24, 2, spatial_dims=2),
        (),
    ),
    "swin-unetr": (
        lambda: SwinUNETR(num_classes=2, width=12, depths=(2, 1, 1, 1), window=4),
        lambda nets: nets.SwinUNETR(3, 2, depths=(2, 1, 1, 1), window_size=4, feature_size=12, spatial_dims=2),
        (),
    ),
}


@pytest.fixture
def pair(request: pytest.FixtureRequest) -> tuple[Segmenter, nn.Module]:
    """Our network and MONAI's with the same weights, all of them unlike those of a fresh network."""
    from monai.networks import nets

    make, whole, beside = PAIRS[request.param]
    torch.manual_seed(0)
    ours, theirs = make(), whole(nets)
    with torch.no_grad():
        for weight in ours.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    missing, unexpected = theirs.load_state_dict(ours.net.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith(beside or ("\0",)) for name in missing)
    return ours, theirs


def _logits(net: Segmenter, image: Tensor) -> list[Tensor]:
    return net.decode(net.encode(image, []), (image.shape[-2], image.shape[-1]))


@pytest.mark.parametrize("pair", PAIRS, indirect=True)
def test_both_halves_together_are_monais_forward(pair: tuple[Segmenter, nn.Module]) -> None:
    ours, theirs = (net.eval() for net in pair)
    image = torch.rand(2, 3, SIDE, SIDE)
    with torch.no_grad():
        expected = theirs(image)
        # UNet++ lists its heads from the shallowest decoder to the deepest.
        final = expected[-1] if isinstance(expected, list) else expected
        torch.testing.assert_close(_logits(ours, image)[0], final, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pair", ["dynunet"], indirect=True)
def test_the_coarser_heads_of_dynunet_are_monais(pair: tuple[Segmenter, nn.Module]) -> None:
    """MONAI brings them to image size by repeating cells."""
    ours, theirs = pair
    image = torch.rand(2, 3, SIDE, SIDE)
    expected = theirs.train()(image).unbind(dim=1)
    found = _logits(ours, image)
    assert [level.shape[-1] for level in found] == [SIDE, SIDE // 2, SIDE // 4]
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(nn.functional.interpolate(level, (SIDE, SIDE)), wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pair", ["unetpp"], indirect=True)
def test_the_heads_of_unetpp_are_monais_from_the_deepest_decoder_to_the_shallowest(
    pair: tuple[Segmenter, nn.Module],
) -> None:
    ours, theirs = pair
    image = torch.rand(2, 3, 32, 32)
    for level, wanted in zip(_logits(ours, image), reversed(theirs(image)), strict=True):
        torch.testing.assert_close(level, wanted, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("make", "options", "count"),
    [
        (DynUNet, {"deep_supervision": False}, 33_460_898),
        (SegResNet, {}, 6_299_106),
        (UNetPlusPlus, {}, 9_119_464),
        (AttentionUNet, {}, 31_740_402),
        (UNETR, {}, 87_727_362),
        (SwinUNETR, {}, 25_139_324),
        (SwinUNETR, {"width": 24}, 6_302_900),
    ],
)
def test_the_number_of_parameters_is_monais(make: Make, options: dict[str, Any], count: int) -> None:
    # Shapes alone: to draw 88 million weights takes seconds.
    with torch.device("meta"):
        net = make(num_classes=2, **options)
    assert sum(weight.numel() for weight in net.parameters()) == count


@pytest.mark.parametrize(("make", "heads"), [(DynUNet, 5), (UNetPlusPlus, 4)])
def test_without_deep_supervision_one_head_is_left(make: Make, heads: int) -> None:
    def levels(deep_supervision: bool) -> int:
        with torch.device("meta"):
            return len(_logits(make(num_classes=2, deep_supervision=deep_supervision), torch.empty(1, 3, 128, 128)))

    assert (levels(True), levels(False)) == (heads, 1)


@pytest.mark.parametrize("name", ["dynunet", "unetpp"])
def test_without_deep_supervision_every_weight_is_trained(name: str) -> None:
    kind = DynUNet if name == "dynunet" else UNetPlusPlus
    widths = (4, 4, 8, 8, 8) if name == "dynunet" else (4, 4, 6, 8, 8, 4)
    net = kind(num_classes=2, widths=widths, deep_supervision=False)  # type: ignore[operator]
    _logits(net, torch.rand(2, 3, 32, 32))[0].square().mean().backward()
    assert all(weight.grad is not None for weight in net.parameters())


def test_no_weight_of_dynunet_has_two_names() -> None:
    """A file of weights may not hold one twice."""
    values = [tensor.data_ptr() for tensor in PAIRS["dynunet"][0]().state_dict().values()]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("dynunet", [(4, 64), (4, 32), (8, 16), (8, 8), (8, 4)]),
        ("segresnet", [(8, 64), (16, 32), (32, 16)]),
        ("unetpp", [(4, 64), (4, 32), (6, 16), (8, 8), (8, 4)]),
        ("attention-unet", [(4, 64), (6, 32), (8, 16), (10, 8)]),
        ("unetr", [(4, 64), (8, 32), (16, 16), (32, 8), (24, 4)]),
        ("swin-unetr", [(12, 64), (12, 32), (24, 16), (48, 8), (96, 4), (192, 2)]),
    ],
)
def test_the_last_map_is_the_bottleneck(name: str, shapes: list[tuple[int, int]]) -> None:
    net = PAIRS[name][0]()
    features = net.encode(torch.rand(1, 3, SIDE, SIDE), [])
    assert [tuple(item.shape) for item in features] == [(1, width, side, side) for width, side in shapes]
    assert net.stride >= SIDE // shapes[-1][1]


# --- UNETR's positions


def _unetr() -> UNETR:
    """Positions of 4 x 4 patches in three channels: constant, the row, the column."""
    net = UNETR(num_classes=2, image_size=SIDE, width=4, hidden_size=4, mlp_size=4, heads=1)
    rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
    table = torch.stack([torch.full((4, 4), 7.0), rows, columns, rows], dim=-1).reshape(1, 16, 4)
    with torch.no_grad():
        net.net.vit.patch_embedding.position_embeddings.copy_(table)
    return net


def test_positions_of_images_of_their_size_stay_as_they_are() -> None:
    net = _unetr()
    assert net._positions((4, 4)) is net.net.vit.patch_embedding.position_embeddings


def test_positions_of_other_images_are_interpolated_along_each_side() -> None:
    """Twice as wide: the same rows; the columns rise from left to right, alike from both ends."""
    constant, row, column, _ = _unetr()._positions((4, 8)).unflatten(1, (4, 8))[0].unbind(dim=-1)
    torch.testing.assert_close(constant, torch.full((4, 8), 7.0))
    torch.testing.assert_close(row, torch.arange(4.0).view(4, 1).expand(4, 8))
    assert (column.diff(dim=1) > 0).all()
    torch.testing.assert_close(column + column.flip(1), torch.full((4, 8), 3.0))


def test_positions_learn_on_images_of_another_size() -> None:
    net = _unetr()
    _logits(net, torch.rand(1, 3, 32, 80))[0].square().mean().backward()
    assert net.net.vit.patch_embedding.position_embeddings.grad.abs().sum() > 0


# --- What is refused


@pytest.mark.parametrize(
    ("make", "options", "line"),
    [
        (DynUNet, {"widths": (4, 4, 4)}, "expected 4 or more"),
        (SegResNet, {"width": 12}, "expected a multiple of 8"),
        (UNetPlusPlus, {"widths": (4, 4, 4)}, "expected six"),
        (AttentionUNet, {"widths": (4,)}, "expected two or more"),
        (UNETR, {"image_size": 100}, "image_size is 100, expected a multiple of 16"),
        (SwinUNETR, {"width": 20}, "feature_size should be divisible by 12"),
        (SwinUNETR, {"depths": (2, 2)}, "expected four of each"),
    ],
)
def test_options_that_cannot_be_built_are_refused(make: Make, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        make(num_classes=2, **options)


@pytest.mark.parametrize("module", ["einops", "monai.networks.nets"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DependencyError, match=rf"segmenter unetr needs {module.split('.')[0]} .*guidino\[monai\]"):
        UNETR(num_classes=2)
