"""The steps from an image file to its mask that an exported network does not contain, for programs without guidino."""

from typing import Any

from guidino_cli.config import RunConfig
from guidino_cli.engine.prediction.sliding import Window

_AXIS_NAMES = {-2: "row", -1: "column"}
_SIZES = {
    "stretch": "side x side",
    "longer": "factor = side / max(height, width); each becomes max(1, round(factor * it))",
    "shorter": "factor = side / min(height, width); each becomes max(side, round(factor * it))",
    "none": "unchanged; no resizing",
}


def prediction_recipe(config: RunConfig) -> list[dict[str, Any]]:
    """Steps of `guidino predict` for an 8-bit image, in order; `examples/onnx_predict.py` does them with numpy.

    Lengths are in pixels, and `round` takes halves to the even number, as in Python. What each step needs is given as
    values; the texts explain them.
    """
    side, settings = config.data.image_size, config.predict
    stride = max(1, int(side * (1 - settings.overlap)))
    return [
        {
            "step": "decode",
            "colours": "RGB, 8 bits; grey three times, palettes resolved, alpha dropped, EXIF rotation applied",
            "deeper": "images of more than 8 bits are first scaled: without the outermost thousandth of all values at "
            "either end, the mean of the lowest hundredth becomes 0 and that of the highest 255; then rounded",
        },
        {
            "step": "resize",
            "mode": config.data.resize,
            "side": side,
            "size": _SIZES[config.data.resize],
            "filter": "bilinear",
            "antialias": True,
            "rounding": "to whole numbers of 8 bits, as Pillow's Image.resize(size, Image.Resampling.BILINEAR) does",
        },
        {"step": "scale", "divide_by": 255, "dtype": "float32"},
        {"step": "pad", "at_least": side, "where": "bottom and right", "value": 0.0},
        {
            "step": "windows",
            "side": side,
            "stride_at_most": stride,
            "corners": "along each axis, of the size before padding: last = max(0, size - side); count = ceil(last / "
            "stride_at_most) + 1; corner i = round(last * i / (count - 1)), 0 if count is 1",
        },
        {
            "step": "flips",
            "axes": [[_AXIS_NAMES[axis] for axis in axes] for axes in Window.from_config(config).flip_axes],
            "how": "flip the window, run the network, flip its output back",
            "exact": settings.mirror_backbone == "each" or not config.mirror,
        },
        {
            "step": "average",
            "of": "natural logarithms of the probabilities",
            "smallest_probability": 1e-38,
            "over_flips": "equal weights",
            "over_windows": "the weight of row r is exp(-(r - (side - 1) / 2)^2 / (2 sigma^2)), of a column alike; "
            "that of a pixel is their product, at least minimum_weight; sums are divided by the sum of the weights",
            "sigma": side / 8,
            "minimum_weight": 1e-4,
        },
        {"step": "crop", "to": "the size before padding"},
        {"step": "softmax", "over": "classes"},
        {
            "step": "restore",
            "to": "the size of the image",
            "filter": "bilinear",
            "dtype": "float32",
            "pixel_centres": "half: position = (pixel + 0.5) * scale - 0.5, clamped to the first and last pixel",
            "antialias": "on both axes if the image has fewer rows than after the step resize, else on none",
        },
        {"step": "argmax", "over": "classes", "ties": "the first class", "after": "restore"},
    ]
