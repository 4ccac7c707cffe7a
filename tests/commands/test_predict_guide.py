"""What `predict --save-guide` writes: the map that gates, and one a class where there are several."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
BACKBONE = "{name: random, options: {hidden_size: 32, depth: 2, heads: 2}}"


@pytest.mark.parametrize("per_class", [False, True])
def test_save_guide_writes_the_map_that_gates_and_one_a_class(
    per_class: bool, guidino: Callable[..., Any], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    data, run, out = make_data(num_classes=3), tmp_path / "run", tmp_path / "out"
    guide = f"{{per_class: {str(per_class).lower()}, options: {{prototypes: 4, aggregate: logsumexp}}}}"
    settings = [
        f"model.backbone={BACKBONE}",
        f"model.guide={guide}",
        "model.segmenter={name: unet, options: {width: 4}}",
        "data.image_size=32",
        "train.epochs=1",
        "train.lr=1e-2",
    ]
    words = [word for setting in settings for word in ("--set", setting)]
    assert guidino("train", "--preset", "demo", "--data", data, "-o", run, *words).code == 0
    done = guidino("predict", run, data, "-o", out, "--save-guide")
    assert done.code == 0, done.stderr
    gate = np.asarray(Image.open(out / "guides" / "case6.png"))
    classes = [out / "guides" / f"class_{index}" / "case6.png" for index in (1, 2)]
    assert [path.is_file() for path in classes] == [per_class, per_class]
    assert gate.shape == (40, 48)
    assert gate.dtype == np.uint16
    if per_class:
        maps = [np.asarray(Image.open(path)) for path in classes]
        assert not np.array_equal(*maps)
        assert np.array_equal(gate, np.maximum(*maps))


def test_a_saved_guide_keeps_differences_that_8_bits_lose(guidino: Callable[..., Any], tmp_path: Path) -> None:
    from guidino_cli.data.readers import read
    from guidino_cli.engine.prediction.ensemble import load_ensemble
    from guidino_cli.engine.prediction.predictor import DecodedImage

    # Its guide is a mean over prototypes.
    run = RECORDED / "guided"
    image = RECORDED / "src" / "images" / "bottom_left_slice_23.png"
    assert guidino("predict", run, image, "-o", tmp_path / "out", "--save-guide").code == 0
    saved = np.asarray(Image.open(tmp_path / "out" / "guides" / image.name))
    predictor = load_ensemble([run], device=torch.device("cpu")).predictor
    guide = predictor.segment([DecodedImage(*read(image))])[0].guide
    assert guide is not None
    assert np.abs(saved / 65535 - guide.numpy().max(axis=0)).max() <= 0.5 / 65535 + 1e-6
    assert len(np.unique(saved)) > 256
