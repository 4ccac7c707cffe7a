"""SAM2-UNet: its size, what a receptive field block sees, and its three scores."""

import pytest
import torch

from guidino_cli.models.segmenters.sam2_unet import ReceptiveFieldBlock, SAM2UNet

WIDTHS = (144, 288, 576, 1152)


def _weights(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def test_the_parameters_beside_hiera_large_by_hand() -> None:
    """Five 1x1 convolutions a level, crosses of 3, 5 and 7, rings; three joining blocks; three heads of one class."""
    level = 5 * 128 + sum(2 * 64 * 64 * k + 256 + 9 * 64 * 64 + 128 for k in (3, 5, 7)) + 9 * 256 * 64 + 128
    joining = 9 * 128 * 64 + 9 * 64 * 64 + 256
    with torch.device("meta"):
        found = _weights(SAM2UNet(num_classes=1, dense_channels=WIDTHS))
    assert found == sum(5 * 64 * d + level for d in WIDTHS) + 3 * joining + 3 * 65 == 2_555_331


def test_a_receptive_field_reaches_eleven_cells_to_each_side() -> None:
    """Half of the widest cross, the dilation of its ring, half of the joining convolution: 3 + 7 + 1."""
    torch.manual_seed(0)
    block, x = ReceptiveFieldBlock(3, 4).eval(), torch.randn(1, 3, 31, 31, requires_grad=True)
    # Where the last activation is 0, nothing would be seen.
    torch.nn.init.constant_(block.join[1].bias, 100)
    block(x)[0, :, 15, 15].sum().backward()
    assert x.grad is not None
    seen = x.grad[0].abs().amax(dim=0) > 0
    rows, columns = seen.any(dim=1).nonzero().flatten(), seen.any(dim=0).nonzero().flatten()
    assert (rows.min(), rows.max()) == (4, 26)
    assert (columns.min(), columns.max()) == (4, 26)


def test_all_three_scores_have_the_size_of_the_image() -> None:
    network = SAM2UNet(num_classes=2, dense_channels=(4, 8, 8, 16), width=4)
    dense = [torch.randn(2, d, 16 // 2**i, 24 // 2**i) for i, d in enumerate((4, 8, 8, 16))]
    maps = network.encode(torch.empty(2, 3, 64, 96), dense)
    assert [item.shape[1:] for item in maps] == [(4, 16, 24), (4, 8, 12), (4, 4, 6), (4, 2, 3)]
    assert [level.shape for level in network.decode(maps, (61, 90))] == [(2, 2, 61, 90)] * 3


def test_coarser_maps_are_joined_with_aligned_corners() -> None:
    """Two cells become four: the first, two thirds of it and a third of the second, and so on."""
    network, seen = SAM2UNet(num_classes=2, dense_channels=(4, 4, 4, 4), width=4).eval(), []
    network.join[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, 4:]))
    maps = [torch.randn(1, 4, 16 // 2**i, 16 // 2**i) for i in range(4)]
    network.decode(maps, (64, 64))
    first, second = maps[-1][..., 0, :1], maps[-1][..., 0, 1:]
    torch.testing.assert_close(seen[0][..., 0, :], first + (second - first) * torch.tensor([0, 1 / 3, 2 / 3, 1]))


def test_the_first_score_is_that_of_the_finest_level() -> None:
    """The coarser ones do not depend on the finest map."""
    network = SAM2UNet(num_classes=2, dense_channels=(4, 4, 4, 4), width=4).eval()
    dense = [torch.randn(1, 4, 16 // 2**i, 16 // 2**i) for i in range(4)]
    other = [torch.randn(1, 4, 16, 16), *dense[1:]]
    one, two = (network.decode(network.encode(torch.empty(0), maps), (64, 64)) for maps in (dense, other))
    assert [bool(torch.equal(a, b)) for a, b in zip(one, two, strict=True)] == [False, True, True]


def test_without_deep_supervision_there_is_one_score() -> None:
    network = SAM2UNet(num_classes=2, dense_channels=(4, 4, 4, 4), width=4, deep_supervision=False)
    dense = [torch.randn(2, 4, 8, 8)] * 4
    assert len(network.decode(network.encode(torch.empty(0), dense), (64, 64))) == 1


def test_another_number_of_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="reads 4 levels of its backbone, found 1; use backbone sam2"):
        SAM2UNet(num_classes=2, dense_channels=[384])
