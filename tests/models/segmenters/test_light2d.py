"""The benchmark's light decoder."""

import pytest
import torch

from guidino_cli.models.segmenters.light2d import Light2D

# Of ViT-S, B and L: D 256 + 256 of the projection, 978,112 of the blocks, 66 of the head.
WEIGHTS = {384: 1_076_482, 768: 1_174_786, 1024: 1_240_322}


def _light(**options: object) -> Light2D:
    torch.manual_seed(0)
    return Light2D(num_classes=2, dense_channels=[8, 6], **options).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize(("channels", "weights"), WEIGHTS.items())
def test_it_has_about_a_million_weights(channels: int, weights: int) -> None:
    with torch.device("meta"):
        light = Light2D(num_classes=2, dense_channels=[channels])
    assert sum(weight.numel() for weight in light.parameters()) == weights


def test_only_the_deepest_map_is_read() -> None:
    light, deep = _light(widths=(4, 2)), torch.rand(1, 6, 3, 5)
    image = torch.empty(1, 3, 48, 80)
    with torch.no_grad():
        first = light.encode(image, [torch.rand(1, 8, 3, 5), deep])
        again = light.encode(image + 1, [torch.rand(1, 8, 3, 5), deep])
    assert len(first) == 1
    assert torch.equal(first[0], again[0])


def test_the_grid_doubles_between_blocks() -> None:
    light = _light(widths=(4, 3, 2))
    seen: list[tuple[int, ...]] = []
    for block in light.blocks:
        block.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[1:])))
    logits = light.decode([torch.rand(1, 4, 3, 5)], (48, 80))
    assert seen == [(4, 3, 5), (3, 6, 10), (2, 12, 20)]
    assert [item.shape for item in logits] == [(1, 2, 48, 80)]


def test_a_decoder_without_blocks_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"widths are empty, expected one for each block, such as \[256, 128, 64, 32\]"
    ):
        _light(widths=())
