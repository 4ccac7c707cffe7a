"""U-Mamba: its size, where its scans are, and what they see."""

from itertools import pairwise

import pytest
import torch

from guidino_cli.models.mamba import Mamba
from guidino_cli.models.segmenters.u_mamba import MambaLayer, UMamba

# Fewer than eight channels: torch 2.13 on a CPU corrupts memory in the backward pass of a 1x1 convolution of stride 2
# whose input lies in memory channels last, as behind a scan.
SMALL = {"num_classes": 2, "widths": [8, 8, 8, 8, 8], "states": 4}
EIGHT = [32, 64, 128, 256, 512, 512, 512, 512]


def _weights(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def _scanned(network: UMamba) -> list[int]:
    return [level for level, scan in enumerate(network.scans) if isinstance(scan, MambaLayer)]


def test_the_parameters_are_those_of_the_plans() -> None:
    """Published code 64.795 million with two classes, 513 weights a class in a head that is left out here, and 47.5."""
    with torch.device("meta"):
        assert round((_weights(UMamba(num_classes=2, widths=EIGHT)) + 2 * 513) / 1e6, 3) == 64.795
        assert _weights(UMamba(num_classes=1, widths=EIGHT)) == 64_792_742
        assert _weights(UMamba(num_classes=1)) == 47_513_509


def test_without_its_mamba_a_network_of_eight_stages_is_a_residual_nnu_net() -> None:
    """By hand, a block from i to o channels: 9 io + o, 9 oo + o, two norms of 2 o, and io + o of the shortcut, if any.

    Two blocks at the start, then (2, 2, 2, 2, 1, 1, 1, 1); up (1, 1, 1, 2, 2, 2, 2) and 1x1 convolutions; six heads.
    The finest block on the way up takes the risen map alone.
    """

    def first(i: int, o: int) -> int:
        return 9 * i * o + o + 9 * o * o + o + 4 * o + i * o + o

    def other(o: int) -> int:
        return 2 * (9 * o * o + 3 * o)

    down = sum(first(i, o) for i, o in zip([3, 32, *EIGHT[:-1]], [32, *EIGHT], strict=True))
    down += sum(other(o) for o in (32, 32, 64, 128, 256))
    up = sum(first(o if i == 0 else 2 * o, o) + below * o + o for i, (o, below) in enumerate(pairwise(EIGHT)))
    up += sum(other(o) for o in (256, 512, 512, 512)) + sum(o + 1 for o in EIGHT[:6])
    with torch.device("meta"):
        network = UMamba(num_classes=1, widths=EIGHT)
    assert _weights(network) - _weights(network.scans) == down + up


def test_the_finest_map_of_the_encoder_reaches_the_scores_through_the_coarser_ones_alone() -> None:
    network, image = UMamba(**SMALL), torch.randn(1, 3, 32, 48)
    maps = network.encode(image, [])
    assert [item.shape[-2:] for item in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert network.merge[0][0].first[0].in_channels == 8
    assert network.merge[1][0].first[0].in_channels == 16


def test_a_scan_is_a_norm_and_a_mamba_block() -> None:
    with torch.device("meta"):
        assert _weights(MambaLayer(512, states=16)) == 2 * 512 + _weights(Mamba(512))


@pytest.mark.parametrize(("stages", "levels"), [(4, [1, 3]), (5, [0, 2, 4])])
def test_in_the_encoder_every_second_stage_is_scanned_and_the_last(stages: int, levels: list[int]) -> None:
    options = {**SMALL, "widths": SMALL["widths"][:stages]}
    assert _scanned(UMamba(**options, where="enc")) == levels
    assert _scanned(UMamba(**options)) == [stages - 1]


def test_with_scans_in_the_encoder_it_learns_everywhere() -> None:
    network = UMamba(**SMALL, where="enc")
    logits = network.decode(network.encode(torch.randn(2, 3, 32, 48), []), (32, 48))
    torch.stack([level.square().mean() for level in logits]).sum().backward()
    assert [level.shape[-2:] for level in logits] == [(32, 48), (16, 24), (8, 12)]
    assert all(weight.grad is not None for weight in network.parameters())


def test_a_scan_reads_cells_row_by_row() -> None:
    """Cell (1, 1) of a 3 x 4 map is the sixth of them: what lies before it counts, what follows does not."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 3, 4, requires_grad=True)
    MambaLayer(8, states=4)(x)[0, :, 1, 1].sum().backward()
    assert x.grad is not None
    seen = (x.grad[0].abs().amax(dim=0) > 0).flatten()
    assert seen.tolist() == [cell <= 5 for cell in range(12)]


def test_without_deep_supervision_there_is_one_head() -> None:
    network = UMamba(**SMALL, deep_supervision=False)
    assert len(network.decode(network.encode(torch.randn(1, 3, 16, 16), []), (16, 16))) == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"where": "all"}, "where is 'all', expected bot"),
        ({"blocks": [1, 1]}, r"widths \[8, 8, 8, 8, 8\] and blocks \[1, 1\]: expected equally many"),
        ({"widths": [8, 8]}, "3 or more"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        UMamba(**{**SMALL, **options})
