"""TransUNet, a ViT between a ResNet and a cascade of convolutions."""

import pytest
import torch
from torch import nn

from guidino_cli.models.segmenters.trans_unet import TransUNet

SMALL = {"width": 8, "convs": (1, 1, 1), "hidden_size": 16, "depth": 1, "heads": 2, "mlp_size": 16}


def _small(*, image_size: int = 32) -> TransUNet:
    torch.manual_seed(0)
    return TransUNet(num_classes=2, decoder=(8, 8, 4, 4), image_size=image_size, **SMALL).eval()


def test_the_number_of_parameters_is_that_of_the_papers_network() -> None:
    with torch.device("meta"):
        net = TransUNet(num_classes=1)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 3) == 105.322


def test_an_image_of_another_size_has_a_position_for_each_of_its_patches() -> None:
    with torch.device("meta"):
        net = TransUNet(num_classes=1, image_size=224)
    assert net.position.shape == (1, 768, 14, 14)


def test_the_maps_are_at_a_half_to_a_sixteenth() -> None:
    features = _small().encode(torch.rand(1, 3, 64, 32), [])
    assert [tuple(item.shape[1:]) for item in features] == [(8, 32, 16), (32, 16, 8), (64, 8, 4), (16, 4, 2)]


def test_without_positions_the_transformer_does_not_know_where_a_cell_is() -> None:
    net, x = _small(), torch.randn(1, 128, 2, 3)
    nn.init.zeros_(net.position)
    torch.testing.assert_close(net._transformed(x.flip(-1)), net._transformed(x).flip(-1))


def test_with_positions_it_does() -> None:
    net, x = _small(), torch.randn(1, 128, 2, 2)
    nn.init.normal_(net.position)
    assert not torch.allclose(net._transformed(x.flip(-1)), net._transformed(x).flip(-1), atol=1e-2)


def test_the_positions_of_a_larger_image_are_interpolated() -> None:
    """What is the same everywhere stays so: the map then equals that of a network made for the larger image."""
    small, large = _small(image_size=32), _small(image_size=64)
    large.load_state_dict({**small.state_dict(), "position": torch.full((1, 16, 4, 4), 0.3)})
    nn.init.constant_(small.position, 0.3)
    x = torch.randn(1, 128, 4, 4)
    torch.testing.assert_close(small._transformed(x), large._transformed(x))


def test_every_cell_attends_to_every_other() -> None:
    net, x = _small(), torch.randn(1, 128, 3, 3)
    changed = x.clone()
    changed[..., 0, 0] += 1
    assert (net._transformed(x) != net._transformed(changed)).any(1).all()


def test_the_blocks_do_not_share_their_first_weights() -> None:
    net = TransUNet(num_classes=2, **{**SMALL, "depth": 2})
    assert not torch.equal(net.blocks[0].linear1.weight, net.blocks[1].linear1.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"convs": (3, 4)}, "expected three and four"),
        ({"hidden_size": 100, "heads": 12}, "a multiple of the 12 heads"),
        ({"image_size": 8}, "expected 16 or more"),
    ],
)
def test_options_that_make_no_network_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TransUNet(num_classes=2, **options)  # type: ignore[arg-type]
