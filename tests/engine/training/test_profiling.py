"""What the steps spend their time on: the right steps, in files that a viewer and a reader can use."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guidino_cli.engine.training.profiling import table
from guidino_cli.engine.training.trainer import Trainer

Maker = Callable[..., Path]
Trainers = Callable[..., Trainer]


@pytest.mark.parametrize(("last", "said"), [(3, "steps 3 to 3 of"), (9, "steps 3 to 4 of")])
def test_the_steps_from_the_third_to_the_last_or_the_epochs_end_are_watched(
    last: int, said: str, make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    settings = (f"train.profile={last}", "train.epochs=2")
    make_trainer(make_data(train=8), tmp_path / "run", *settings).fit()
    text = (tmp_path / "run" / "trace.txt").read_text(encoding="ascii")
    assert text.startswith(f"{said} the first epoch on cpu: ")
    assert max(map(len, text.splitlines())) <= 80
    names = [event.get("name") for event in json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]]
    assert names.count("guidino.forward") == min(last, 4) - 2


def test_what_is_not_asked_for_is_not_written(make_trainer: Trainers, make_data: Maker, tmp_path: Path) -> None:
    make_trainer(make_data(), tmp_path / "run", "train.epochs=1").fit()
    assert not list((tmp_path / "run").glob("trace.*"))


def test_numbers_are_of_one_step() -> None:
    def event(key: str, count: int, cpu_us: float) -> Any:
        return SimpleNamespace(
            key=key, count=count, cpu_time_total=cpu_us, self_cpu_time_total=cpu_us / 2,
            device_time_total=0.0, self_device_time_total=0.0,
        )  # fmt: skip

    events = [event("guidino.loss", 4, 8000), event("aten::mul", 12, 4000), event("aten::_local_scalar_dense", 2, 4)]
    lines = table(events, steps=4, seconds=2.0).splitlines()
    assert lines[0] == "500.0 ms a step"
    assert lines[3].split() == ["loss", "1.0", "2.00", "0.00"]
    assert lines[6].split() == ["aten::mul", "3.0", "0.50", "0.00"]
    assert lines[-1] == "read back from the device, times a step: aten::_local_scalar_dense 0.5"
