"""Dino U-Net: projection module, size, contract, refusals."""

import pytest
import torch
from torch import Tensor, nn

from guidino_cli.models.segmenters.dino_unet import FAPM, DinoUNet, _Excitation, _Modulation


def test_the_context_scales_and_shifts_a_scales_own_projection() -> None:
    """Of context c and own projection z, a generator that says (2 c, c + 1) makes 2 c z + c + 1."""
    modulation = _Modulation(1, 1)
    with torch.no_grad():
        modulation.specific.weight.fill_(3.0)
        modulation.specific.bias.zero_()
        modulation.generate.weight.copy_(torch.tensor([2.0, 1.0]).view(2, 1, 1, 1))
        modulation.generate.bias.copy_(torch.tensor([0.0, 1.0]))
    item, context = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), torch.tensor([5.0, -1.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(modulation(item, context).flatten(), torch.tensor([36.0, -12.0]))


def test_excitation_weighs_a_channel_by_a_sigmoid_of_what_channels_are_on_average() -> None:
    """Channel means 1 and 3; the hidden unit is their sum 4, of which the weights are sigmoid(4) and sigmoid(-4)."""
    excite = _Excitation(2)
    with torch.no_grad():
        excite.squeeze.weight.fill_(1.0)
        excite.weigh.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        for layer in (excite.squeeze, excite.weigh):
            layer.bias.zero_()
    x = torch.tensor([[0.0, 2.0], [2.0, 4.0]]).view(1, 2, 1, 2)
    weight = torch.tensor([4.0, -4.0]).sigmoid().view(1, 2, 1, 1)
    torch.testing.assert_close(excite(x), x * weight)


def test_every_scale_gets_its_own_width_and_keeps_its_grid() -> None:
    fapm = FAPM(8, (4, 6), kind="film", rank=16)
    shapes = [item.shape for item in fapm([torch.rand(2, 8, 4, 6), torch.rand(2, 8, 2, 3)])]
    assert shapes == [(2, 4, 4, 6), (2, 6, 2, 3)]


def test_a_width_that_is_the_rank_needs_no_projected_shortcut() -> None:
    fapm = FAPM(8, (4, 16), kind="film", rank=16)
    assert [isinstance(item.shortcut, torch.nn.Identity) for item in fapm.refine] == [False, True]


def test_lowrank_has_the_shared_projection_alone() -> None:
    fapm = FAPM(8, (4, 16), kind="lowrank", rank=16)
    assert fapm.modulate is None
    assert all(item.shortcut is None for item in fapm.refine)


# Of DINOv3 S, B, L and 7B.
LOWRANK = {384: 5_106_084, 768: 11_650_788, 1024: 18_143_844, 4096: 228_967_524}
FILM = {384: 6_194_560, 768: 13_181_632, 1024: 19_969_600, 4096: 234_332_224}
# nnU-Net's heads at 1/2 and 1/4 for two classes, which the authors' code makes and never trains.
COARSER_HEADS = 2 * (64 + 1) + 2 * (128 + 1)


class _Always(nn.Module):
    """Gives the same maps, whatever it is given."""

    def __init__(self, maps: list[Tensor]) -> None:
        super().__init__()
        self.maps = maps

    def forward(self, *_: object) -> list[Tensor]:
        return self.maps


def _count(channels: int, **options: object) -> int:
    # Shapes alone: 234 million weights take seconds to draw.
    with torch.device("meta"):
        network = DinoUNet(num_classes=2, dense_channels=[channels] * 4, **options)  # type: ignore[arg-type]
    return sum(weight.numel() for weight in network.parameters())


@pytest.mark.parametrize(("channels", "weights"), LOWRANK.items())
def test_with_the_low_rank_projection_it_has_the_weights_of_the_papers_table_iv(channels: int, weights: int) -> None:
    assert _count(channels, fapm="lowrank", deep_supervision=True) == weights


@pytest.mark.parametrize(("channels", "weights"), FILM.items())
def test_the_projection_of_the_papers_text_has_about_a_million_weights_more(channels: int, weights: int) -> None:
    assert _count(channels) == weights


def test_the_coarser_heads_are_all_that_deep_supervision_adds() -> None:
    assert _count(384, deep_supervision=True) - _count(384) == COARSER_HEADS


def test_without_modulation_and_shortcut_a_film_projection_would_be_the_low_rank_one_of_its_rank() -> None:
    """Paper and pencil, of D = 384, R = 256: projections of each scale, generators, and shortcuts of three widths."""
    specific, generators = 4 * (384 * 256 + 256), 4 * (256 * 512 + 512)
    shortcuts = sum(256 * width + width for width in (32, 64, 128))
    assert _count(384) - _count(384, fapm="lowrank", rank=256) == specific + generators + shortcuts


def test_the_skip_connections_are_of_the_images_size_a_half_a_quarter_and_an_eighth() -> None:
    network = DinoUNet(num_classes=2, dense_channels=[32] * 4, rank=8, widths=(2, 3, 4, 5)).eval()
    skips = network.encode(torch.rand(1, 3, 64, 96), [torch.rand(1, 32, 4, 6)] * 4)
    assert [item.shape for item in skips] == [(1, 2, 64, 96), (1, 3, 32, 48), (1, 4, 16, 24), (1, 5, 8, 12)]


def test_a_step_of_upsampling_is_taken_twice_with_the_same_weights() -> None:
    """A kernel of ones copies a cell four times: of two steps, sixteen."""
    network = DinoUNet(num_classes=2, dense_channels=[32] * 4, rank=8, widths=(1, 1, 1, 1)).eval()
    skips = [torch.rand(1, 1, 2, 2)] * 4
    network.adapter, network.fapm = _Always(skips), nn.Identity()  # type: ignore[assignment]
    for refine in network.refine:
        nn.init.ones_(refine.weight)
        nn.init.zeros_(refine.bias)
    for found in network.encode(torch.rand(1, 3, 8, 8), []):
        assert torch.equal(found, skips[0].repeat_interleave(4, dim=2).repeat_interleave(4, dim=3))


def test_with_deep_supervision_there_are_scores_at_a_half_and_a_quarter_too() -> None:
    network = DinoUNet(
        num_classes=3, dense_channels=[32] * 4, rank=8, widths=(2, 2, 2, 2), deep_supervision=True
    ).eval()
    logits = network.decode(network.encode(torch.rand(1, 3, 32, 32), [torch.rand(1, 32, 2, 2)] * 4), (32, 32))
    assert [item.shape for item in logits] == [(1, 3, 32, 32), (1, 3, 16, 16), (1, 3, 8, 8)]


def test_patches_of_14_pixels_are_read_as_well() -> None:
    network = DinoUNet(num_classes=2, dense_channels=[32] * 4, rank=8, widths=(2, 2, 2, 2)).eval()
    logits = network.decode(network.encode(torch.rand(1, 3, 64, 64), [torch.rand(1, 32, 5, 5)] * 4), (64, 64))
    assert logits[0].shape == (1, 2, 64, 64)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dense_channels": [384]}, r"reads 4 blocks of its backbone, found 1; set .*layers=\[3,6,9,12\]"),
        ({"dense_channels": [96, 192, 384, 768]}, "all of one width that is a multiple of 32"),
        ({"dense_channels": [40] * 4}, "multiple of 32, found widths"),
        ({"fapm": "flim"}, "fapm is 'flim', expected film or lowrank"),
        ({"widths": [32, 64]}, "expected four, one for each scale"),
        ({"drop_path": 1.0}, "drop_path is 1.0, expected 0 <= drop_path < 1"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(options: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line), torch.device("meta"):
        DinoUNet(**({"num_classes": 2, "dense_channels": [384] * 4} | options))  # type: ignore[arg-type]
