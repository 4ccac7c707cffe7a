"""H2Former, a ResNet with attention within windows in every stage."""

import pytest
import torch

from guidino_cli.models.segmenters.h2former import (
    EfficientChannelAttention,
    H2Former,
    _MultiScaleEmbedding,
    _MultiScaleMerging,
)

SMALL = {"width": 8, "convs": (1, 1, 1, 1), "depths": (2, 1, 1, 1), "heads": (1, 2, 2, 2), "window": 4}


def test_stem_and_convolutions_have_the_parameters_of_resnet_34_without_its_classifier() -> None:
    with torch.device("meta"):
        net = H2Former(num_classes=1)
    assert sum(p.numel() for part in (net.stem, net.convs) for p in part.parameters()) == 21_797_672 - 513_000


def test_the_number_of_parameters_is_that_of_the_authors_network() -> None:
    """33,698,656 in their code, which takes four channels; here by hand."""
    resnet = 21_797_672 - 513_000 + 49 * 64
    embed = 4 * (4 * 32 + 16 * 16 + 64 * 8 + 256 * 8) + 64 + 3 + 2 * 64
    mixing = 0
    for c, heads in ((64, 2), (128, 4), (256, 8), (512, 16)):
        attention = 3 * c * (c + 1) + c * (c + 1) + 31 * 31 * heads
        mixing += 2 * (attention + 4 * c * (c + 1) + c * (4 * c + 1) + 3 + 4 * c)
    merging = sum(2 * c + 4 * c * c + c + 16 * c * c + c + 3 for c in (64, 128, 256))
    decoder = sum(4 * 2 * c * c + c + 9 * 2 * c * c + c + 2 * c for c in (64, 128, 256))
    assert (merging, decoder) == (1_722_121, 2_238_208)
    with torch.device("meta"):
        net = H2Former(num_classes=1, in_channels=4)
    assert sum(p.numel() for p in net.parameters()) == resnet + embed + mixing + merging + decoder + 64 == 33_698_656


def test_the_maps_are_at_a_half_to_a_sixteenth() -> None:
    features = H2Former(num_classes=2, **SMALL).encode(torch.rand(2, 3, 64, 32), [])
    sizes = [(8, 32, 16), (16, 16, 8), (32, 8, 4), (64, 4, 2)]
    assert [tuple(item.shape[1:]) for item in features] == sizes


def test_the_scores_are_those_of_half_the_size_enlarged_with_aligned_corners() -> None:
    net = H2Former(num_classes=2, **SMALL).eval()
    small = []
    net.head.register_forward_hook(lambda _, __, output: small.append(output))
    large = net.decode(net.encode(torch.rand(1, 3, 32, 32), []), (32, 32))[0]
    first, last = small[0][..., 0, 0], small[0][..., 0, 15]
    torch.testing.assert_close(large[..., 0, 0], first)
    torch.testing.assert_close(large[..., 0, 31], last)
    # Pixel 1 of 31 steps lies 15/31 of the way from cell 0 to cell 1.
    torch.testing.assert_close(large[..., 0, 1], first + (small[0][..., 0, 1] - first) * 15 / 31)


def test_stochastic_depth_rises_to_a_tenth_over_the_eight_attention_blocks() -> None:
    with torch.device("meta"):
        net = H2Former(num_classes=2)
    shares = [block.drop_path.share for stage in net.mix for block in stage]
    assert shares == pytest.approx([0.1 * i / 7 for i in range(8)])


def test_the_mlp_of_a_block_ends_in_channel_attention() -> None:
    """After the layer that brings the tokens back to their width."""
    block = H2Former(num_classes=2, **SMALL).mix[1][0]
    last, attention = block.mlp[-2], block.mlp[-1]
    assert (last.in_features, last.out_features) == (64, 16)
    assert isinstance(attention, EfficientChannelAttention)


def test_channel_attention_of_zero_weights_adds_half_of_every_channel() -> None:
    net, x = EfficientChannelAttention(), torch.randn(2, 3, 5, 8)
    torch.nn.init.zeros_(net.conv.weight)
    torch.testing.assert_close(net(x), 1.5 * x)


def test_channel_attention_weighs_by_the_mean_of_a_channel_over_the_map() -> None:
    net, x = EfficientChannelAttention(), torch.randn(2, 3, 5, 8)
    with torch.no_grad():
        net.conv.weight.copy_(torch.tensor([[[0.0, 1.0, 0.0]]]))
    torch.testing.assert_close(net(x), x + x * x.mean(dim=(1, 2), keepdim=True).sigmoid())


def test_the_embedding_is_normed_after_its_channels_are_weighed() -> None:
    embedded = _MultiScaleEmbedding(3, 16)(torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(embedded.mean(dim=1), torch.zeros(1, 16, 16), atol=1e-5, rtol=0)


def test_merging_reads_the_normed_map_and_weighs_what_it_gives() -> None:
    """A factor on all of a map is lost in the norm; factors of 1 + sigmoid(0) with attention of zero weights."""
    torch.manual_seed(0)
    merge, x = _MultiScaleMerging(8), torch.randn(1, 8, 8, 8)
    torch.testing.assert_close(merge(1000 * x), merge(2000 * x), rtol=1e-3, atol=1e-4)
    torch.nn.init.zeros_(merge.attention.conv.weight)
    normed = torch.nn.functional.layer_norm(x.permute(0, 2, 3, 1), (8,)).permute(0, 3, 1, 2)
    near = torch.nn.functional.conv2d(normed, merge.scales[0].weight, merge.scales[0].bias, stride=2)
    torch.testing.assert_close(merge(x)[:, :8], 1.5 * near)


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


def test_a_width_that_the_scales_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="width is 20, expected a multiple of 8"):
        H2Former(num_classes=2, width=20)


def test_lists_that_are_not_of_four_stages_are_refused() -> None:
    with pytest.raises(ValueError, match="expected four of each"):
        H2Former(num_classes=2, convs=(3, 4))
