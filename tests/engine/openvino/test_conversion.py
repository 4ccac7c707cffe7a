"""Parts of the conversion for OpenVINO."""

import pytest
import torch
import torch.nn.functional as F

from guidino_cli.engine.openvino.conversion import interpolate_antialiased


@pytest.mark.parametrize(
    ("size", "target"), [((19, 19), (4, 7)), ((8, 8), (16, 3)), ((5, 9), (5, 9)), ((37, 21), (12, 30))]
)
def test_interpolation_with_antialiasing_is_torchs(size: tuple[int, int], target: tuple[int, int]) -> None:
    maps = torch.rand(2, 3, *size)
    expected = F.interpolate(maps, size=target, mode="bilinear", antialias=True)
    torch.testing.assert_close(interpolate_antialiased(maps, list(target), False), expected, atol=1e-6, rtol=0)


def test_corners_and_scales_are_not_expressed() -> None:
    maps = torch.rand(1, 1, 4, 4)
    with pytest.raises(ValueError, match="to a size"):
        interpolate_antialiased(maps, [2, 2], True)
    with pytest.raises(ValueError, match="to a size"):
        interpolate_antialiased(maps, None, False, [0.5, 0.5])
