"""The mean Dice that selects the best epoch."""

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from guidino_cli.config import RunConfig, override
from guidino_cli.data.image_writing import write_label_map
from guidino_cli.engine.training import validation as validation_module
from guidino_cli.engine.training.validation import Validation
from guidino_cli.errors import DataError
from guidino_cli.types import Case, Prediction


class Red(nn.Module):
    """Class 1 where red exceeds green; counts its forward passes."""

    mean: Tensor
    backbone = None

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0
        self.register_buffer("mean", torch.zeros(1, 3, 1, 1))

    def forward(self, image: Tensor, *, get_or_compute: None = None) -> Prediction:
        self.passes += len(image)
        score = image[:, :1] - image[:, 1:2] - 0.5
        return Prediction([torch.cat([torch.zeros_like(score), 9 * score], dim=1)])


def make_case(folder: Path, name: str, *, red: int, true: int, width: int = 32, mask: bool = True) -> Case:
    """An image whose first `red` columns are red, and whose first `true` columns are foreground."""
    pixels, labels = np.zeros((32, width, 3), dtype=np.uint8), np.zeros((32, width), dtype=np.uint8)
    pixels[:, :red, 0], labels[:, :true] = 255, 1
    Image.fromarray(pixels).save(folder / f"{name}.png")
    write_label_map(folder / f"{name}-mask.png", labels)
    path = folder / f"{name}-mask.png"
    return Case(name, folder / f"{name}.png", path if mask else None, "val", None, name, (32, width), 0.5)


def validate(*cases: Case) -> Validation:
    config = override(RunConfig(), ["data.image_size=32", "data.resize=none", "predict.overlap=0"])
    return Validation(cases, config, num_classes=2, accelerator=Accelerator(cpu=True), cache=None)


def test_it_is_the_mean_of_the_cases_in_one_pass_a_window(tmp_path: Path) -> None:
    """16 of 8 true columns: 2 x 8 / 24; nothing of nothing: 1. Mirroring would take four passes a window."""
    model = Red()
    cases = [make_case(tmp_path, "a", red=16, true=8), make_case(tmp_path, "b", red=0, true=0)]
    assert validate(*cases).mean_dice(model) == pytest.approx((2 / 3 + 1) / 2)  # type: ignore[arg-type]
    assert model.passes == 2
    assert not model.training


def test_every_window_of_a_larger_image_counts(tmp_path: Path) -> None:
    model = Red()
    case = make_case(tmp_path, "a", red=48, true=64, width=64)
    assert validate(case).mean_dice(model) == pytest.approx(2 * 48 / 112)  # type: ignore[arg-type]
    assert model.passes == 2


def test_the_next_case_is_read_and_the_one_before_scored_while_the_network_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network waits for both: for the second case while it has the first, for the first score on the second."""
    validation = validate(*[make_case(tmp_path, name, red=8, true=8) for name in "ab"])
    read, score, model = validation._read, validation_module.mean_dice, Red()
    second_is_read, first_is_scored, seen = Event(), Event(), []

    def note_reading(case: Case) -> object:
        if case.id == "b":
            second_is_read.set()
        return read(case)

    def note_score(*arguments: object, **others: object) -> float:
        first_is_scored.set()
        return score(*arguments, **others)  # type: ignore[arg-type]

    def wait(*_: object) -> None:
        seen.append((first_is_scored if seen else second_is_read).wait(timeout=20))

    monkeypatch.setattr(validation, "_read", note_reading)
    monkeypatch.setattr(validation_module, "mean_dice", note_score)
    model.register_forward_pre_hook(wait)
    assert validation.mean_dice(model) == 1.0  # type: ignore[arg-type]
    assert seen == [True, True]


def test_a_stopped_validation_has_no_value(tmp_path: Path) -> None:
    cases = [make_case(tmp_path, name, red=8, true=8) for name in "ab"]
    answers = iter([False, True])
    assert validate(*cases).mean_dice(Red(), should_stop=lambda: next(answers)) is None  # type: ignore[arg-type]
    assert validate(*cases).mean_dice(Red()) == 1.0  # type: ignore[arg-type]


def test_a_case_without_a_mask_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.png: has no mask"):
        validate(make_case(tmp_path, "a", red=8, true=8, mask=False)).mean_dice(Red())  # type: ignore[arg-type]


def test_a_mask_of_another_size_is_an_error_with_both_sizes(tmp_path: Path) -> None:
    case = make_case(tmp_path, "a", red=8, true=8)
    write_label_map(tmp_path / "a-mask.png", np.zeros((32, 40), dtype=np.uint8))
    with pytest.raises(DataError, match=r"a-mask\.png: is 40x32 px .*a\.png is 32x32"):
        validate(case).mean_dice(Red())  # type: ignore[arg-type]


def test_pixels_of_the_ignore_label_do_not_count(tmp_path: Path) -> None:
    """16 red columns, 8 true ones and 8 that do not count: nothing is wrong."""
    case = make_case(tmp_path, "a", red=16, true=8)
    assert case.mask is not None
    labels = np.asarray(Image.open(case.mask)).copy()
    labels[:, 8:16] = 255
    write_label_map(case.mask, labels)
    case = replace(case, ignore_label=255)
    assert validate(case).mean_dice(Red()) == 1  # type: ignore[arg-type]
