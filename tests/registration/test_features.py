"""Features of a backbone: the PCA against numpy, which cell belongs to which pixel, and channels side by side."""

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.models.base import Backbone
from guidino_cli.registration.extraction import put_side_by_side
from guidino_cli.registration.features import TokenMaps, compute_maps, draw_tokens, enlarge_maps, fit_pca


class MeanBackbone(Backbone):
    """Tokens are the mean colours of patches of 4 pixels."""

    channels, level_channels, stride, identity = 3, [3], 4, {"weights": "mean", "sha256": "0"}
    is_frozen = True

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> list[Tensor]:
        self.seen.append(tuple(image.shape))
        return [torch.nn.functional.avg_pool2d(image, 4).expand(-1, 3, -1, -1)]


def test_the_pca_is_that_of_a_singular_value_decomposition() -> None:
    tokens = torch.randn(200, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    pca = fit_pca(tokens.float(), 3)
    centred = (tokens - tokens.mean(dim=0)).numpy()
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    found = pca.project(tokens.float().T.reshape(6, 20, 10)).reshape(3, -1).T.double()
    expected = torch.from_numpy(centred @ vectors[:3].T)
    # Signs and the common scale are free.
    cosine = (found * expected).sum(dim=0) / found.norm(dim=0) / expected.norm(dim=0)
    assert cosine.abs().tolist() == pytest.approx([1, 1, 1], abs=1e-5)
    assert float(found.var(dim=0, correction=0).mean()) == pytest.approx(1, rel=1e-4)
    assert pca.explained == pytest.approx((values[:3] ** 2).sum() / (values**2).sum(), rel=1e-4)


def test_equal_tokens_have_no_components() -> None:
    with pytest.raises(ValueError, match="all tokens are equal"):
        fit_pca(torch.ones(50, 4), 2)


def test_tokens_are_drawn_without_repeating_any() -> None:
    maps = torch.arange(60.0).view(1, 6, 10)
    drawn = draw_tokens([maps, maps + 60], limit=50)[:, 0].tolist()
    assert len(set(drawn)) == 50
    assert set(drawn) <= set(range(120))


def test_a_bright_pixel_of_a_slice_is_in_the_cell_that_covers_it() -> None:
    volume = np.zeros((1, 5, 16, 12), dtype=np.float32)
    volume[0, 3, 12:16, 4:8] = 1
    maps = compute_maps(MeanBackbone(), volume, (1, 1, 1), px=16)
    assert maps.shape == (3, 5, 4, 3)
    assert (maps[0] == maps.max()).nonzero().tolist() == [[3, 3, 1]]
    assert enlarge_maps(maps, (5, 16, 12)).shape == (3, 5, 16, 12)


def test_slices_of_one_colour_are_seen_once_and_change_no_map() -> None:
    volume = np.zeros((1, 6, 16, 12), dtype=np.float32)
    volume[0, 2:4] = np.random.default_rng(0).random((2, 16, 12))
    volume[0, 4] = 0.5
    backbone = MeanBackbone()
    maps = compute_maps(backbone, volume, (1, 1, 1), px=16)
    # Of slices 0, 1 and 5, which are black, one; both textures; and the grey one.
    assert backbone.seen == [(4, 1, 16, 12)]
    alone = [compute_maps(MeanBackbone(), volume[:, number], (1, 1), px=16) for number in range(6)]
    assert torch.allclose(maps, torch.stack(alone, dim=1), atol=1e-6)


def test_slices_are_cut_across_much_longer_voxels() -> None:
    backbone = MeanBackbone()
    volume = np.random.default_rng(0).random((1, 24, 20, 6)).astype(np.float32)
    maps = compute_maps(backbone, volume, (1, 1, 7), px=24)
    assert maps.shape == (3, 6, 5, 6)
    assert backbone.seen == [(6, 1, 24, 20)]


def test_an_image_has_no_axis_of_slices_and_keeps_its_colours() -> None:
    backbone = MeanBackbone()
    assert compute_maps(backbone, np.zeros((3, 8, 10), dtype=np.float32), (1, 1)).shape[1:] == (6, 8)
    # Three times as large, in whole patches.
    assert backbone.seen == [(1, 3, 24, 32)]


def test_side_by_side_the_mean_over_channels_of_mind_is_what_it_is_alone() -> None:
    mind, components = torch.rand(4, 6, 5), torch.rand(8, 6, 5)
    both = put_side_by_side(mind, components)
    alone, beside = mind.square().mean(dim=0), components.square().mean(dim=0)
    assert both.square().mean(dim=0).allclose(alone + beside / 4)


def test_tokens_of_an_image_are_computed_once_as_long_as_they_are_held() -> None:
    images = [np.random.default_rng(seed).random((1, 8, 8), dtype=np.float32) for seed in range(3)]
    backbone = MeanBackbone()
    # Room for two of the three: maps of 3 x 4 x 4 numbers.
    tokens = TokenMaps(backbone, px=16, limit=2 * 3 * 16 * 4)
    for number in (0, 1, 0, 2, 0, 1):
        found = tokens.compute(images[number].copy(), (1, 1))
        assert torch.equal(found, compute_maps(MeanBackbone(), images[number], (1, 1), px=16))
    # The image that was not asked for longest made room for the third.
    assert len(backbone.seen) == 4
    tokens.compute(images[1], (1, 2))
    assert len(backbone.seen) == 5


def test_tokens_that_exceed_the_limit_are_not_held() -> None:
    backbone = MeanBackbone()
    tokens = TokenMaps(backbone, px=16, limit=100)
    for _ in range(2):
        tokens.compute(np.ones((1, 8, 8), dtype=np.float32), (1, 1))
    assert len(backbone.seen) == 2
