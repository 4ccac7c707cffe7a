"""TransUNet, a ViT between a ResNet and a cascade of convolutions."""

import pytest
import torch
from torch import nn

from guidino_cli.models.segmenters.trans_unet import TransUNet

SMALL = {"width": 8, "convs": (1, 1, 1), "hidden_size": 16, "depth": 1, "heads": 2, "mlp_size": 16}


def _small(*, image_size: int = 32) -> TransUNet:
    torch.manual_seed(0)
    return TransUNet(num_classes=2, decoder=(8, 8, 4, 4), image_size=image_size, **SMALL).eval()


def _bottleneck(i: int, o: int, *, projects: bool) -> int:
    """1x1, 3x3 and 1x1 convolutions without bias, a norm after each, and after the shortcut's if there is one."""
    m = o // 4
    return i * m + 9 * m * m + m * o + 4 * m + 2 * o + (i * o + 2 * o if projects else 0)


def test_the_number_of_parameters_is_that_of_the_authors_network() -> None:
    """105.322 million in their code, with one class at 256 px; here by hand."""
    resnet = 147 * 64 + 2 * 64
    for i, o, count in ((64, 256, 3), (256, 512, 4), (512, 1024, 9)):
        resnet += _bottleneck(i, o, projects=True) + (count - 1) * _bottleneck(o, o, projects=False)
    d = 768
    vit = 1024 * d + d + 256 * d + 12 * (4 * d * (d + 1) + 2 * d * 3072 + 3072 + d + 4 * d) + 2 * d
    up = 9 * d * 512 + 2 * 512
    for i, skip, o in ((512, 512, 256), (256, 256, 128), (128, 64, 64), (64, 0, 16)):
        up += 9 * (i + skip) * o + 9 * o * o + 4 * o
    with torch.device("meta"):
        net = TransUNet(num_classes=1)
    assert sum(p.numel() for p in net.parameters()) == resnet + vit + up + 9 * 16 + 1 == 105_322_001


def test_the_skip_at_a_quarter_lacks_its_last_row_and_column() -> None:
    """Pooling 32 x 16 cells by 3 x 3 with stride 2 and without padding gives 15 x 7 of 16 x 8."""
    skip = _small().encode(torch.rand(1, 3, 64, 32), [])[1]
    assert not skip[..., -1, :].any()
    assert not skip[..., -1].any()
    assert (skip[..., :-1, :-1] != 0).any(dim=1).all()


def test_a_convolution_sees_as_far_up_as_down() -> None:
    """Cell 4 of the stem covers pixels 5 to 11: three on either side of pixel 8."""
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    _small().stem[0](image)[0, :, 4, 4].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    assert (seen.min(0).values.tolist(), seen.max(0).values.tolist()) == ([5, 5], [11, 11])


def test_filters_are_standardised() -> None:
    """Scale and offset of a filter do not matter."""
    conv, x = _small().stem[0], torch.randn(1, 3, 16, 16)
    nn.init.normal_(conv.weight)
    before = conv(x)
    with torch.no_grad():
        conv.weight.mul_(3).add_(0.5)
    torch.testing.assert_close(conv(x), before, rtol=1e-3, atol=1e-3)


def test_the_norm_of_a_shortcut_has_a_group_for_every_channel() -> None:
    normed = _small().stages[1][0].shortcut(torch.randn(1, 32, 16, 16))
    torch.testing.assert_close(normed.mean(dim=(2, 3)), torch.zeros(1, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(dim=(2, 3), correction=0), torch.ones(1, 64), atol=1e-3, rtol=0)


def test_the_way_up_aligns_the_corners_of_its_maps() -> None:
    """Two cells become four: the first, two thirds of it and a third of the second, and so on."""
    net, seen = _small(), []
    net.rise[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net.bottom.register_forward_hook(lambda _, __, output: seen.append(output))
    net.decode(net.encode(torch.rand(1, 3, 32, 32), []), (32, 32))
    small, large = seen[0], seen[1][:, :64]
    first, second = small[..., 0, :1], small[..., 0, 1:]
    torch.testing.assert_close(large[..., 0, :], first + (second - first) * torch.tensor([0, 1 / 3, 2 / 3, 1]))


def test_nothing_of_the_attention_is_dropped() -> None:
    """With an MLP that adds nothing, a block in training is the block in evaluation."""
    torch.manual_seed(0)
    block = TransUNet(num_classes=2, **SMALL, dropout=0.5).blocks[0]
    for parameter in (block.linear2.weight, block.linear2.bias):
        nn.init.zeros_(parameter)
    x = torch.randn(1, 6, 16)
    torch.testing.assert_close(block.train()(x), block.eval()(x))


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
