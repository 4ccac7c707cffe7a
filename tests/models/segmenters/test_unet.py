"""The U-Net of the GuiDINO paper."""

import torch

from guidino_cli.models.segmenters.unet import UNet


def test_the_number_of_parameters_is_that_of_the_papers_code() -> None:
    assert sum(p.numel() for p in UNet(num_classes=1).parameters()) == 7_763_041


def test_a_second_class_adds_one_row_to_the_head() -> None:
    counts = [sum(p.numel() for p in UNet(num_classes=k).parameters()) for k in (1, 2)]
    assert counts[1] - counts[0] == 32 + 1


def test_the_bottleneck_has_sixteen_times_the_width_at_a_sixteenth_of_the_size() -> None:
    features = UNet(num_classes=2, width=4).encode(torch.rand(2, 3, 64, 32), [])
    assert [tuple(item.shape) for item in features] == [
        (2, 4 * 2**level, 64 // 2**level, 32 // 2**level) for level in range(5)
    ]


def test_every_skip_reaches_the_logits() -> None:
    unet = UNet(num_classes=2, width=4).eval()
    features = unet.encode(torch.rand(1, 3, 32, 32), [])
    whole = unet.decode(features, (32, 32))[0]
    for level in range(5):
        without = [torch.zeros_like(item) if i == level else item for i, item in enumerate(features)]
        assert not torch.equal(whole, unet.decode(without, (32, 32))[0]), level


def test_there_is_no_deep_supervision() -> None:
    unet = UNet(num_classes=2, width=4)
    assert len(unet.decode(unet.encode(torch.rand(2, 3, 32, 32), []), (32, 32))) == 1
