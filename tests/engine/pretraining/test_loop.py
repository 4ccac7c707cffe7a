"""The pretraining loop with a one-weight objective: arithmetic, resume, and errors."""

import json
import math
import os
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from guidino_cli.data.dataset import infinite_sample_indices
from guidino_cli.engine.pretraining.data import ImageStream
from guidino_cli.engine.pretraining.folder import PretrainFolder
from guidino_cli.engine.pretraining.history import detect_collapse
from guidino_cli.engine.pretraining.history import format_row as row_told
from guidino_cli.engine.pretraining.loop import Pretrainer
from guidino_cli.errors import ConfigError, DataError, StoppedError, UserError
from guidino_cli.pretrain_config import PretrainConfig, override_pretrain_config
from guidino_cli.ssl.networks import TokenEncoder
from guidino_cli.ssl.objective import ObjectiveOutput, PretrainObjective, PretrainProgress
from guidino_cli.types import UnlabelledSample

_SETTINGS = [
    "data.side=8", "train.batch_size=2", "train.log_every=2", "train.picture_every=0", "train.clip_norm=100",
    "train.save_minutes=0", "stages=[{name: one, steps: 6, lr: 0.01}]",
]  # fmt: skip


class _OneWeight(PretrainObjective):
    """(w m - 1)^2 for the mean grey m of an image; remembers which images it saw."""

    def __init__(self, *, spoil: Callable[[PretrainProgress], float] = lambda _: 1.0) -> None:
        super().__init__()
        self.student = nn.Linear(1, 1, bias=False)  # type: ignore[assignment]
        nn.init.constant_(self.student.weight, 0.5)  # type: ignore[arg-type]
        self.seen: list[int] = []
        self.spoil = spoil

    def views(self, images: UnlabelledSample, *, progress: PretrainProgress) -> Tensor:
        self.seen += images.image_index.tolist()
        return images.pixels.float().mean(dim=(1, 2, 3))[:, None] / 255

    def forward(self, views: Tensor, *, progress: PretrainProgress) -> ObjectiveOutput:
        loss = ((self.student(views) - 1) ** 2).mean() * self.spoil(progress)
        return ObjectiveOutput(
            {"square": loss, "loss": loss}, {"grey": views.mean()}, torch.cat([views, views + 1], dim=1)
        )

    def exported_encoder(self) -> TokenEncoder:
        return self.student


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Eight grey images."""
    (tmp_path / "images").mkdir()
    found = []
    for number in range(8):
        found.append(tmp_path / "images" / f"{number}.png")
        Image.fromarray(np.full((8, 8, 3), 100 + 10 * number, dtype=np.uint8)).save(found[-1])
    return found


def _run(
    paths: list[Path], folder: Path, *overrides: str, objective: _OneWeight | None = None
) -> tuple[Pretrainer, _OneWeight]:
    config = override_pretrain_config(override_pretrain_config(PretrainConfig(), _SETTINGS), overrides)
    objective = objective or _OneWeight()
    place = PretrainFolder(folder)
    place.create(config, {})
    return Pretrainer(objective, config, place, paths=paths, device="cpu"), objective


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if "second" not in key} for row in rows]


def test_a_step_is_one_of_adam_and_a_row_is_the_mean_of_its_steps(paths: list[Path], tmp_path: Path) -> None:
    trainer, objective = _run(
        paths, tmp_path / "run", "stages.0.steps=2", "train.weight_decay=0", "train.layer_decay=1"
    )
    trainer.fit()
    greys = [(100 + 10 * case) / 255 for _, case in islice(infinite_sample_indices(8, seed=0), 4)]
    weight, losses, moments = 0.5, [], (0.0, 0.0)
    for number in (1, 2):
        batch = greys[2 * number - 2 : 2 * number]
        losses.append(sum((weight * grey - 1) ** 2 for grey in batch) / 2)
        gradient = sum(2 * grey * (weight * grey - 1) for grey in batch) / 2
        moments = (0.9 * moments[0] + 0.1 * gradient, 0.999 * moments[1] + 0.001 * gradient**2)
        weight -= 0.01 * (moments[0] / (1 - 0.9**number)) / (math.sqrt(moments[1] / (1 - 0.999**number)) + 1e-8)
    assert float(objective.student.weight) == pytest.approx(weight, abs=1e-5)
    (row,) = _rows(tmp_path / "run")
    assert row["square"] == pytest.approx(sum(losses) / 2, abs=1e-5)
    assert (row["step"], row["stage"], row["lr"]) == (2, "one", 0.01)
    assert row["grey"] == pytest.approx(sum(greys) / 4, abs=1e-5)


def test_a_row_ends_with_its_stage_so_that_means_have_all_their_terms(paths: list[Path], tmp_path: Path) -> None:
    class Late(_OneWeight):
        def forward(self, views: Tensor, *, progress: PretrainProgress) -> ObjectiveOutput:
            learned = super().forward(views, progress=progress)
            late = {"late": torch.tensor(3.0)} if progress.step >= 3 else {}
            return learned._replace(terms={**learned.terms, **late})

    stages = "stages=[{name: one, steps: 3, lr: 0.01}, {name: two, steps: 3, lr: 0.01}]"
    trainer, _ = _run(paths, tmp_path / "run", stages, objective=Late())
    trainer.fit()
    rows = [(row["step"], row["stage"], row.get("late")) for row in _rows(tmp_path / "run")]
    assert rows == [(2, "one", None), (3, "one", None), (5, "two", 3.0), (6, "two", 3.0)]


def test_accumulated_batches_equal_a_larger_batch(paths: list[Path], tmp_path: Path) -> None:
    whole, first = _run(paths, tmp_path / "a", "train.batch_size=4", "stages.0.steps=4")
    whole.fit()
    parts, second = _run(paths, tmp_path / "b", "train.accumulate=2", "stages.0.steps=4")
    parts.fit()
    assert first.seen == second.seen
    assert float(first.student.weight) == pytest.approx(float(second.student.weight), abs=1e-6)
    for one, other in zip(_rows(tmp_path / "a"), _rows(tmp_path / "b"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-6)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], abs=1e-6)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_interrupted_within_a_row_resumes_bit_for_bit(paths: list[Path], tmp_path: Path, accumulate: int) -> None:
    overrides = ["train.log_every=4", f"train.accumulate={accumulate}"]
    uninterrupted, whole = _run(paths, tmp_path / "uninterrupted", *overrides)
    uninterrupted.fit()
    interrupted_at: list[int] = []

    def interrupt(progress: PretrainProgress) -> float:
        if progress.step == 2 and not interrupted_at:
            interrupted_at.append(progress.step)
            os.kill(os.getpid(), signal.SIGINT)
        return 1.0

    interrupted, _ = _run(paths, tmp_path / "interrupted", *overrides, objective=_OneWeight(spoil=interrupt))
    with pytest.raises(StoppedError, match=r"step 3 of 6 is saved; resume with: guidino pretrain --resume") as stop:
        interrupted.fit()
    assert stop.value.exit_code == 130
    again = Pretrainer(rest := _OneWeight(), interrupted.config, interrupted.folder, paths=paths, device="cpu")
    again.resume()
    again.fit()
    assert float(rest.student.weight) == float(whole.student.weight)
    assert rest.seen == whole.seen[3 * 2 * accumulate :]
    assert _rows(tmp_path / "interrupted") == _rows(tmp_path / "uninterrupted")


def test_a_state_with_the_masks_and_warm_up_of_0_1_0_is_refused(paths: list[Path], tmp_path: Path) -> None:
    """It would go on with others."""
    trainer, objective = _run(paths, tmp_path / "run")
    trainer.fit()
    state = trainer.folder.load_state()
    assert state["format"] == 2
    trainer.folder.save_state({**state, "format": 1})
    again = Pretrainer(objective, trainer.config, trainer.folder, paths=paths, device="cpu")
    with pytest.raises(DataError, match=r"state\.pt: written by another version of guidino; resume with that one"):
        again.resume()


def test_a_damaged_image_is_named_and_earlier_steps_are_saved(paths: list[Path], tmp_path: Path) -> None:
    case = next(islice(infinite_sample_indices(8, seed=0), 5, None)).case
    paths[case].write_bytes(b"no image")
    trainer, _ = _run(paths, tmp_path / "run")
    with pytest.raises(DataError, match=rf"{case}\.png.*step 2 of 6 is saved"):
        trainer.fit()
    assert PretrainFolder(tmp_path / "run").load_state()["step"] == 2


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_non_finite_loss_stops_the_run_with_its_step_and_images(
    paths: list[Path], tmp_path: Path, accumulate: int
) -> None:
    objective = _OneWeight(spoil=lambda progress: float("nan") if progress.step == 2 else 1.0)
    trainer, _ = _run(paths, tmp_path / "run", f"train.accumulate={accumulate}", objective=objective)
    cases = [turn.case for turn in islice(infinite_sample_indices(8, seed=0), 4 * accumulate, 4 * accumulate + 2)]
    with pytest.raises(ConfigError, match=rf"first in step 3 \(images .*{cases[0]}\.png.*{cases[1]}\.png"):
        trainer.fit()


def test_a_collapsed_run_is_stopped(paths: list[Path], tmp_path: Path) -> None:
    class Dead(_OneWeight):
        def forward(self, views: Tensor, *, progress: PretrainProgress) -> ObjectiveOutput:
            return super().forward(views, progress=progress)._replace(features=torch.ones(8, 3))

    trainer, _ = _run(paths, tmp_path / "run", objective=Dead())
    with pytest.raises(ConfigError, match="step 6: the features of all images are nearly equal") as error:
        trainer.fit()
    assert "stages.0.lr" in str(error.value)


def test_a_batch_of_two_images_has_no_effective_rank(paths: list[Path], tmp_path: Path) -> None:
    trainer, _ = _run(paths, tmp_path / "run")
    trainer.fit()
    assert all("rank" not in row and "cosine" in row for row in _rows(tmp_path / "run"))


def test_fewer_than_three_bad_rows_are_no_collapse() -> None:
    good, bad = {"rank": 9.0, "cosine": 0.4}, {"rank": 1.0, "cosine": 0.9999}
    assert detect_collapse([bad, bad, good]) is None
    assert detect_collapse([good, bad, bad]) is None
    assert detect_collapse([good, bad, bad, bad]) is not None


def test_fewer_images_than_a_batch_are_refused(paths: list[Path]) -> None:
    config = override_pretrain_config(PretrainConfig(), ["train.batch_size=9"])
    with pytest.raises(ConfigError, match="8 images do not fill a batch of 9"):
        ImageStream(paths, config)


def test_koleo_groups_that_do_not_fit_the_batch_are_refused(paths: list[Path]) -> None:
    config = override_pretrain_config(PretrainConfig(), ["train.batch_size=4", "stages.0.koleo_group=3"])
    with pytest.raises(
        ConfigError, match=r"stages\.0\.koleo_group is 3, .* 4 images on one process; use a divisor of 4"
    ):
        ImageStream(paths, config)


def test_batches_for_the_cpu_are_not_pinned_on_a_machine_with_a_card(
    paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = override_pretrain_config(PretrainConfig(), _SETTINGS)
    stream = ImageStream(paths, config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not stream._loader(8).pin_memory


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_stream_continues_with_another_image_size(paths: list[Path], workers: int) -> None:
    config = override_pretrain_config(PretrainConfig(), [*_SETTINGS, f"data.workers={workers}"])
    stream, again = ImageStream(paths, config), ImageStream(paths, config, start=3)
    taken = [stream.take(side=8 if number < 4 else 4) for number in range(6)]
    assert all(not isinstance(batch, UserError) for batch in taken)
    shown = [
        (int(epoch), int(case)) for batch in taken for epoch, case in zip(batch.epoch, batch.image_index, strict=True)
    ]  # type: ignore[union-attr]
    assert shown == list(islice(infinite_sample_indices(8, seed=0), 12))
    assert [batch.pixels.shape[-1] for batch in taken] == [8, 8, 8, 8, 4, 4]  # type: ignore[union-attr]
    assert again.take(side=8).image_index.tolist() == taken[3].image_index.tolist()  # type: ignore[union-attr]


def test_a_row_is_formatted_with_its_terms_and_the_remaining_time() -> None:
    row = {"step": 50, "stage": "1", "lr": 0.1, "weight_decay": 0.04, "dino": 5.0, "loss": 7.5, "rank": 12.34,
           "cosine": 0.25, "images_per_second": 20.0, "seconds": 100.0}  # fmt: skip
    line = row_told(row, steps=250)
    assert line == "step 50/250: loss 7.5000 (dino 5.000), rank 12.3, cosine 0.250, 20 images/s, 7 min left"


def test_denormal_numbers_are_flushed_during_pretraining_alone() -> None:
    from guidino_cli.engine.pretraining.loop import _flush_denormals

    smallest = torch.tensor([1e-40])
    with _flush_denormals():
        assert float(smallest * 1) == 0
    assert float(smallest * 1) > 0


def test_a_row_says_how_many_images_a_second_were_seen(paths: list[Path], tmp_path: Path) -> None:
    """Two steps of two images; their time is rounded to milliseconds."""
    trainer, _ = _run(paths, tmp_path / "run", "stages.0.steps=2")
    trainer.fit()
    (row,) = [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert 2 < row["images_per_second"] * row["seconds"] < 8


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_the_precision_of_the_settings_is_used(paths: list[Path], tmp_path: Path, precision: str) -> None:
    trainer, _ = _run(paths, tmp_path / "run", f"train.precision={precision}")
    assert trainer.accelerator.mixed_precision == precision


def test_a_suspicious_metric_is_warned_of_once(
    paths: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three rows of two steps; without a reason nothing is said."""

    class Suspicious(_OneWeight):
        def warning(self, metrics: Any, *, progress: PretrainProgress) -> str | None:
            return "that is odd" if progress.step > 2 else None

    _run(paths, tmp_path / "run", objective=Suspicious())[0].fit()
    assert capsys.readouterr().err.count("that is odd") == 1
