"""H2Former, a ResNet with attention within windows in every stage."""

import pytest
import torch

from guidino_cli.models.segmenters.h2former import EfficientChannelAttention, H2Former, _MultiScaleEmbedding

SMALL = {"width": 8, "convs": (1, 1, 1, 1), "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 2), "window": 4}


def test_stem_and_convolutions_have_the_parameters_of_resnet_34_without_its_classifier() -> None:
    with torch.device("meta"):
        net = H2Former(num_classes=1)
    assert sum(p.numel() for part in (net.stem, net.convs) for p in part.parameters()) == 21_797_672 - 513_000


def test_the_number_of_parameters_is_within_half_a_percent_of_the_papers_network() -> None:
    with torch.device("meta"):
        net = H2Former(num_classes=1, in_channels=4)
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(33.699e6, rel=0.005)


def test_the_maps_are_at_one_to_a_sixteenth() -> None:
    features = H2Former(num_classes=2, **SMALL).encode(torch.rand(2, 3, 64, 32), [])
    sizes = [(8, 64, 32), (8, 32, 16), (16, 16, 8), (32, 8, 4), (64, 4, 2)]
    assert [tuple(item.shape[1:]) for item in features] == sizes


@pytest.mark.parametrize(("channels", "kernel"), [(8, 3), (64, 3), (128, 5), (256, 5), (2048, 7)])
def test_the_kernel_of_channel_attention_follows_its_papers_rule(channels: int, kernel: int) -> None:
    """t = int(|(log2 C + 1) / 2|), and t + 1 where t is even: 2, 3, 4, 4 and 6 become 3, 3, 5, 5 and 7."""
    assert EfficientChannelAttention(channels).conv.kernel_size == (kernel,)


def test_channel_attention_of_zero_weights_halves_every_channel() -> None:
    net, x = EfficientChannelAttention(8), torch.randn(2, 3, 5, 8)
    torch.nn.init.zeros_(net.conv.weight)
    torch.testing.assert_close(net(x), x / 2)


def test_channel_attention_weighs_by_the_mean_of_a_channel_over_the_map() -> None:
    net, x = EfficientChannelAttention(8), torch.randn(2, 3, 5, 8)
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
    torch.testing.assert_close(net(x), x * x.mean(dim=(1, 2), keepdim=True).sigmoid())


@pytest.mark.parametrize(("scale", "side"), [(0, 2), (1, 4), (2, 8), (3, 16)])
def test_each_branch_sees_a_patch_of_its_own_size_centred_on_the_cell(scale: int, side: int) -> None:
    branch = _MultiScaleEmbedding(3, 16).scales[scale]
    image = torch.rand(1, 3, 64, 64, requires_grad=True)
    branch(image)[0, :, 16, 16].sum().backward()
    assert image.grad is not None
    seen = image.grad[0].abs().sum(0).nonzero()
    # Cell (16, 16) covers pixels 32 and 33.
    assert seen.min(0).values.tolist() == [33 - side // 2] * 2
    assert seen.max(0).values.tolist() == [32 + side // 2] * 2


def test_lists_that_are_not_of_four_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="expected four of each"):
        H2Former(num_classes=2, convs=(3, 4))
