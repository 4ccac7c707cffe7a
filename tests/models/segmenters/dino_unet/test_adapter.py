"""The convolutional pyramid and what is added to it."""

import pytest
import torch

from guidino_cli.models.segmenters.dino_unet.adapter import Adapter, Extractor, SpatialPrior, _maps, _tokens
from guidino_cli.models.segmenters.dino_unet.deformable import cell_centres


def _adapter() -> Adapter:
    torch.manual_seed(0)
    return Adapter(in_channels=3, channels=32, drop_path=0.3).eval()


def _dense() -> list[torch.Tensor]:
    return [torch.randn(1, 32, 4, 6) for _ in range(4)]


def test_the_prior_has_a_map_at_a_quarter_an_eighth_a_sixteenth_and_a_thirty_second() -> None:
    maps = SpatialPrior(3, 8, width=4)(torch.rand(2, 3, 64, 96))
    assert [item.shape for item in maps] == [(2, 8, 16, 24), (2, 8, 8, 12), (2, 8, 4, 6), (2, 8, 2, 3)]


def test_tokens_are_cells_row_by_row_and_come_back_as_maps() -> None:
    maps = [torch.arange(6.0).view(1, 1, 2, 3), torch.arange(6.0, 8.0).view(1, 1, 1, 2)]
    tokens = torch.cat([_tokens(item) for item in maps], dim=1)
    assert tokens.flatten().tolist() == list(range(8))
    assert all(torch.equal(a, b) for a, b in zip(_maps(tokens, [(2, 3), (1, 2)]), maps, strict=True))


def test_a_scale_is_thought_over_by_itself() -> None:
    """A change of the second grid's tokens does not reach the first through the depthwise convolution."""
    feed_forward, sizes = Extractor(32, drop_path=0.0).feed_forward, [(2, 2), (1, 1)]
    tokens = torch.randn(1, 5, 32)
    changed = tokens.clone()
    changed[:, 4] += 1
    before, after = feed_forward(tokens, sizes), feed_forward(changed, sizes)
    assert torch.equal(before[:, :4], after[:, :4])
    assert not torch.equal(before[:, 4], after[:, 4])


def test_a_dropped_branch_is_missing_for_a_whole_sample_and_right_on_average() -> None:
    """At a probability of 0.75 a branch of ones is 0 or 4, everywhere alike in a sample."""
    torch.manual_seed(0)
    extractor = Extractor(32, drop_path=0.75).train()
    dropped = extractor.drop_path(torch.ones(2000, 3, 5))
    assert torch.equal(dropped, dropped[:, :1, :1].expand_as(dropped))
    assert set(dropped[:, 0, 0].tolist()) == {0.0, 4.0}
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.15)


def test_nothing_is_dropped_in_evaluation() -> None:
    branch = torch.ones(50, 3, 5)
    assert torch.equal(Extractor(32, drop_path=0.75).eval().drop_path(branch), branch)


def test_every_one_of_the_four_maps_matters_at_every_scale() -> None:
    adapter, image, dense = _adapter(), torch.rand(1, 3, 64, 96), _dense()
    with torch.no_grad():
        before = adapter(image, dense)
        for level in range(4):
            other = [item + (1 + torch.randn_like(item)) * (i == level) for i, item in enumerate(dense)]
            after = adapter(image, other)
            # The last extractors leave the finest scales of tokens no way around the deepest map.
            assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True)), level


def test_a_map_looks_back_at_the_part_of_the_image_that_it_covers() -> None:
    """The star of a fresh extractor reaches 4 of 16 columns: what changes at the right end is unseen at the left."""
    torch.manual_seed(0)
    extractor = Extractor(32, drop_path=0.0).eval()
    places, sizes = cell_centres([(1, 16)], torch.device("cpu")), [(1, 16)]
    tokens, dense = torch.randn(1, 16, 32), torch.randn(1, 32, 1, 16)
    changed = dense.clone()
    changed[..., 15] += torch.randn(1, 32, 1)
    with torch.no_grad():
        seen = (extractor(tokens, places, sizes, dense) != extractor(tokens, places, sizes, changed)).any(dim=2)[0]
    # Four columns of looking, and one of the depthwise convolution.
    assert seen.tolist() == [False] * 10 + [True] * 6
