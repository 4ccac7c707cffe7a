"""`guidino train` from the command line to a run folder, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Maker = Callable[..., Path]
Caller = Callable[..., "object"]

pytestmark = pytest.mark.usefixtures("figures_where_marked")


@pytest.fixture
def train(guidino, preset: Path, make_data: Maker, tmp_path: Path):
    """Call `guidino train` with the tiny preset, four training images and the folder `run`."""
    data = make_data()

    def call(*words: object):
        return guidino("train", "-p", preset, "-d", data, "-o", tmp_path / "run", "--device", "cpu", *words)

    return call


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _one_line(stderr: str) -> str:
    """The message; everything before it describes the run."""
    return stderr.strip().splitlines()[-1]


# --- It trains


@pytest.mark.figures
def test_two_steps_leave_a_run_folder_that_can_be_used(train, run: Path) -> None:
    from guidino_cli.engine.runs.loading import load_run

    outcome = train()
    assert outcome.code == 0, outcome.stderr
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in history] == [1]
    assert {"loss", "dice", "cross_entropy", "guide", "val_dice"} <= set(history[0])
    model, config, facts = load_run(run)
    assert (config.train.epochs, facts["classes"]) == (1, ["background", "a"])
    assert not model.training
    assert {"curve.png", "validation.png"} <= {path.name for path in run.iterdir()}


def test_the_result_goes_to_stdout_and_progress_to_stderr(train, run: Path) -> None:
    outcome = train()
    assert "val Dice 0." in outcome.stdout.splitlines()[0]
    assert f"guidino predict {run}" in outcome.stdout
    assert "epoch 1/1" in outcome.stderr
    assert "a tiny guided network" in outcome.stderr
    assert "epoch" not in outcome.stdout.splitlines()[0].replace("in epoch 1", "")


def test_nothing_is_written_beside_the_data(train, tmp_path: Path) -> None:
    before = sorted((tmp_path / "data").rglob("*"))
    assert train().code == 0
    assert sorted((tmp_path / "data").rglob("*")) == before


def test_a_dry_run_prints_the_settings_and_writes_nothing(train, run: Path) -> None:
    outcome = train("--dry-run", "--set", "train.lr=1e-4")
    assert outcome.code == 0
    assert "lr: 0.0001" in outcome.stdout
    assert not run.exists()


def test_the_seed_of_the_command_line_is_that_of_the_run(train, run: Path) -> None:
    from guidino_cli.engine.runs.folder import RunFolder

    assert train("--seed", 7).code == 0
    assert RunFolder(run).config().seed == 7


def test_the_manifest_itself_may_be_given(guidino, preset: Path, make_data: Maker, run: Path) -> None:
    words = ("train", "-p", preset, "-d", make_data() / "cases.json", "-o", run, "--device", "cpu")
    assert guidino(*words).code == 0


# --- Resuming


def test_resuming_continues_to_the_last_epoch(train, guidino, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    original = Trainer._train_epoch

    def interrupted(self: Trainer) -> dict[str, float]:
        if self.state.epoch == 1:
            raise KeyboardInterrupt
        return original(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_epoch", interrupted)
        outcome = train("--set", "train.epochs=2")
    assert outcome.code == 130
    assert f"resume with: guidino train --resume -o {run}" in outcome.stderr
    monkeypatch.chdir(run)
    outcome = guidino("train", "--resume", "-o", run, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert len((run / "history.jsonl").read_text().splitlines()) == 2


def test_a_second_ctrl_c_ends_the_first_step_and_prints_how_to_resume(
    train, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_train_epoch", interrupted)
    outcome = train()
    assert outcome.code == 130
    assert f"resume with: guidino train --resume -o {run}" in outcome.stderr


def test_resuming_with_other_settings_is_refused(train, guidino, run: Path) -> None:
    train()
    for words in (("--set", "train.lr=1e-3"), ("--set", "train.epochs=9", "--seed", "3")):
        outcome = guidino("train", "--resume", "-o", run, *words)
        assert outcome.code == 2
        assert "only train.epochs and train.patience may change" in _one_line(outcome.stderr)


def test_a_finished_run_says_so_and_what_to_do_next(train, guidino, run: Path) -> None:
    train()
    outcome = guidino("train", "--resume", "-o", run, "--device", "cpu")
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith(f"{run} is finished: 1 of 1 epoch\n")
    assert f"guidino predict {run}" in outcome.stdout
    assert f"guidino train --resume -o {run} --set train.epochs=2" in outcome.stdout


def test_a_damaged_history_is_refused_by_name_and_line(
    train, guidino, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("guidino_cli.commands.train._finish", lambda *_, **__: None)
        train()
    (run / "history.jsonl").write_text('{"epoch": 1, "los')
    outcome = guidino("train", "--resume", "-o", run, "--device", "cpu")
    assert outcome.code == 3
    assert f"{run / 'history.jsonl'}, line 1: is damaged" in _one_line(outcome.stderr)


def test_preflight_checks_run_before_the_data_is_read(
    guidino, preset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are no data at all."""
    monkeypatch.setattr("guidino_cli.engine.training.trackers.find_spec", lambda _: None)
    words = ("train", "-p", preset, "-o", run, "-d", tmp_path / "none")
    assert "--device cuda:99" in guidino(*words, "--device", "cuda:99").stderr
    missing = guidino(*words, "--device", "cpu", "--set", "train.trackers=[mlflow]")
    assert missing.code == 5
    assert "pip install 'guidino[mlflow]'" in _one_line(missing.stderr)


def test_resuming_what_is_no_run_is_refused(guidino, tmp_path: Path) -> None:
    outcome = guidino("train", "--resume", "-o", tmp_path)
    assert outcome.code == 3
    assert "not a run" in outcome.stderr


def test_resuming_without_a_folder_is_refused(guidino) -> None:
    assert guidino("train", "--resume").code == 2


def test_resuming_on_data_that_changed_is_refused(train, guidino, run: Path, tmp_path: Path) -> None:
    train()
    (run / "result.json").unlink()
    manifest = tmp_path / "data" / "cases.json"
    manifest.write_text(manifest.read_text().replace('"split": "val"', '"split": "test"', 1))
    outcome = guidino("train", "--resume", "-o", run, "--device", "cpu")
    assert outcome.code == 3
    assert "cases.json: has changed since the run started" in _one_line(outcome.stderr)


# --- Refusals, each with its exit code and before anything is written


def test_a_folder_that_is_not_empty_is_refused(train, run: Path) -> None:
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    outcome = train()
    assert outcome.code == 2
    assert "is not empty" in outcome.stderr
    assert [path.name for path in run.iterdir()] == ["notes.txt"]


def test_an_overwritten_run_is_unfinished_from_the_start(train, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run.mkdir()
    (run / "result.json").write_text("{}")

    def create(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("guidino_cli.engine.runs.folder.RunFolder.create", create)
    assert train("--overwrite").code != 0
    assert not (run / "result.json").exists()


def test_overwriting_starts_a_new_run_and_keeps_other_files(train, run: Path) -> None:
    run.mkdir()
    (run / "notes.txt").write_text("mine")
    assert train("--overwrite").code == 0
    assert (run / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--set", "train.epoch=1"), "train.epoch: unknown setting 'epoch'; did you mean 'epochs'"),
        (("--set", "model.segmenter.name=unte"), "unknown segmenter 'unte'; did you mean 'unet'"),
        (("--set", "model.segmenter.options.widht=4"), "unknown option 'widht'; did you mean 'width'"),
        (("--set", "train.loss.dise=1"), "train.loss: unknown term 'dise'; did you mean 'dice'"),
        (("--set", "data.image_size=40"), "data.image_size is 40, but the segmenter needs a multiple of 16"),
        (("--set", "train.precision=fp16"), "needs a CUDA device"),
        (("--seed", "-1"), "seed: "),
        (("--device", "tpu"), "--device tpu"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused_and_nothing_written(
    words: tuple[str, str], message: str, train, run: Path
) -> None:
    outcome = train(*words)
    assert outcome.code == 2
    assert message in _one_line(outcome.stderr)
    assert outcome.stdout == ""
    assert not run.exists()


def test_an_image_size_that_does_not_fit_is_refused_before_weights_are_looked_for(guidino, make_data: Maker) -> None:
    words = ("--preset", "kvasir-nnwnet", "--data", make_data(), "--offline", "--dry-run")
    outcome = guidino("train", *words, "--set", "data.image_size=84")
    assert outcome.code == 2
    assert "data.image_size is 84, but the segmenter needs a multiple of 16, such as 80" in outcome.stderr


def test_the_summary_names_the_network_and_what_gates_it(train) -> None:
    outcome = train("--dry-run", "--set", "train.accumulate=3")
    assert "unet, gated by tokenbook at its bottleneck" in outcome.stderr
    assert "batch 6 (2, 3 times)" in outcome.stderr


def test_an_unknown_preset_suggests_the_nearest(guidino) -> None:
    outcome = guidino("train", "--preset", "kvasir-nnwnte")
    assert outcome.code == 2
    assert outcome.stderr.startswith("guidino: unknown preset 'kvasir-nnwnte'; did you mean 'kvasir-nnwnet'")
    assert outcome.stderr.count("\n") == 1


def test_no_preset_says_how_to_list_them(guidino) -> None:
    outcome = guidino("train")
    assert outcome.code == 2
    assert "guidino presets" in outcome.stderr


def test_no_data_says_how_to_make_them(guidino, preset: Path, run: Path) -> None:
    outcome = guidino("train", "-p", preset, "-o", run)
    assert outcome.code == 2
    assert "--data DATA" in outcome.stderr


def test_a_folder_that_was_not_prepared_is_refused(guidino, preset: Path, run: Path, tmp_path: Path) -> None:
    outcome = guidino("train", "-p", preset, "-o", run, "-d", tmp_path)
    assert outcome.code == 3
    assert "guidino prepare" in outcome.stderr
    assert not run.exists()


def test_data_of_another_format_are_refused(train, run: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "data" / "cases.json"
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 99'))
    outcome = train()
    assert outcome.code == 3
    assert "format 99" in _one_line(outcome.stderr)
    assert not run.exists()


def test_data_with_folds_only_propose_the_folds(guidino, preset: Path, make_data: Maker, run: Path) -> None:
    data = make_data(val=0, fold_count=2)
    outcome = guidino("train", "-p", preset, "-d", data, "-o", run, "--device", "cpu", "--dry-run")
    assert outcome.code == 3
    assert "no cases in the val split, but 2 folds: train them all with --folds 2" in _one_line(outcome.stderr)
    words = ("-p", preset, "-d", data, "-o", run, "--device", "cpu", "--dry-run", "--set", "data.fold=0")
    assert guidino("train", *words).code == 0


def test_data_without_validation_cases_are_refused(guidino, preset: Path, make_data: Maker, run: Path) -> None:
    outcome = guidino("train", "-p", preset, "-d", make_data(val=0), "-o", run, "--device", "cpu")
    assert outcome.code == 3
    assert "no cases in the val split" in _one_line(outcome.stderr)
    assert not run.exists()


def test_a_corrupt_image_is_refused_by_name(train, tmp_path: Path) -> None:
    (tmp_path / "data" / "images" / "case1.png").write_bytes(b"no image")
    outcome = train()
    assert outcome.code == 3
    assert "case1.png: cannot be read as an image" in _one_line(outcome.stderr)


def test_missing_backbone_weights_exit_with_4_and_advice(train, run: Path) -> None:
    outcome = train("--set", "model.backbone={name: dinov3, options: {weights: ./no/such/folder}}", "--offline")
    assert outcome.code == 4
    assert "guidino weights download embedded" in _one_line(outcome.stderr)
    assert not run.exists()


def test_a_full_disk_exits_with_7_and_a_resume_hint(train, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidino_cli.engine.runs.folder import RunFolder
    from guidino_cli.errors import ResourceError

    original, calls = RunFolder.save_state, []

    def full(self: RunFolder, state: dict[str, object]) -> None:
        calls.append(1)
        # The first is of the beginning, the second of the first epoch.
        if len(calls) == 3:
            raise ResourceError(f"{self.state}: cannot be written (No space left on device)")
        original(self, state)

    monkeypatch.setattr(RunFolder, "save_state", full)
    outcome = train("--set", "train.epochs=3")
    assert outcome.code == 7
    assert "No space left on device" in _one_line(outcome.stderr)
    assert f"guidino train --resume -o {run}" in _one_line(outcome.stderr)
    assert RunFolder(run).load_state()["epoch"] == 1


def test_out_of_memory_exits_with_7_and_names_settings_to_lower(train, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidino_cli.engine.training.trainer import Trainer

    def hungry(*_: object) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr(Trainer, "_step", hungry)
    outcome = train()
    assert outcome.code == 7
    assert "train.batch_size" in _one_line(outcome.stderr)


# --- Data without foreground, and settings that cannot be trained


def _empty_masks(data: Path, split: str) -> None:
    """Make every mask of a part of the data empty, in the files and in the manifest."""
    from PIL import Image

    manifest = json.loads((data / "cases.json").read_text())
    for case in manifest["cases"]:
        if case["split"] == split:
            path = data / case["mask"]
            with Image.open(path) as mask:
                Image.new("L", mask.size).save(path)
            case["foreground"] = 0.0
    (data / "cases.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_training_masks_without_foreground_are_refused(train, run: Path, tmp_path: Path, words: tuple[str]) -> None:
    _empty_masks(tmp_path / "data", "train")
    outcome = train(*words)
    assert outcome.code == 3
    assert "no training mask has foreground (all 4 are empty)" in _one_line(outcome.stderr)
    assert not run.exists()


def test_validation_masks_without_foreground_are_counted_beside_every_score(train, run: Path, tmp_path: Path) -> None:
    _empty_masks(tmp_path / "data", "val")
    outcome = train()
    assert outcome.code == 0, outcome.stderr
    assert "no validation mask has foreground (all 2 are empty)" in outcome.stderr
    epoch = next(line for line in outcome.stderr.splitlines() if line.startswith("epoch 1/1"))
    assert "2 empty cases)" in epoch
    assert outcome.stdout.splitlines()[0].endswith("in epoch 1; 2 val cases without foreground")
    assert json.loads((run / "history.jsonl").read_text())["val_empty"] == 2
    assert json.loads((run / "result.json").read_text())["val_empty"] == 2


def test_resuming_with_another_preset_is_refused(train, guidino, run: Path, preset: Path) -> None:
    assert train().code == 0
    outcome = guidino("train", "--resume", "-o", run, "--preset", "own-unet")
    assert outcome.code == 2
    assert "leave out --preset" in _one_line(outcome.stderr)
    assert guidino("train", "--resume", "-o", run, "--preset", preset).code == 0
    outcome = guidino("train", "--resume", "--overwrite", "-o", run)
    assert outcome.code == 2
    assert "--overwrite starts it again" in _one_line(outcome.stderr)
    outcome = guidino("lora-tune", "--resume", "-o", run)
    assert outcome.code == 2
    assert "is not adapted by LoRA; resume it with `guidino train --resume`" in _one_line(outcome.stderr)


def test_a_dry_run_finds_a_missing_image(train, tmp_path: Path) -> None:
    (tmp_path / "data" / "images" / "case1.png").unlink()
    outcome = train("--dry-run")
    assert outcome.code == 3
    assert "case1.png: cannot be read" in _one_line(outcome.stderr)


def test_a_dry_run_refuses_a_size_that_the_network_cannot_halve_often_enough(train) -> None:
    outcome = train("--dry-run", "--set", "data.image_size=100")
    assert outcome.code == 2
    assert "needs a multiple of 16, such as 96" in _one_line(outcome.stderr)


def test_a_dry_run_refuses_to_resume_on_other_data(train, guidino, run: Path, make_data: Maker) -> None:
    assert train().code == 0
    (run / "result.json").unlink()
    other = make_data("other", seed=1)
    outcome = guidino("train", "--resume", "-o", run, "--data", other, "--dry-run", "--device", "cpu")
    assert outcome.code == 3
    assert "other/cases.json: has changed since the run started, or is not its data" in _one_line(outcome.stderr)


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_network_larger_than_the_memory_is_refused(train, run: Path, words: tuple[str]) -> None:
    outcome = train("--set", "model.segmenter.options.width=100000000", *words)
    assert outcome.code == 2
    assert "segmenter unet with options {'width': 100000000}: needs more than" in _one_line(outcome.stderr)
    assert not run.exists()


# --- One process for each run folder


def test_a_run_that_another_process_writes_to_is_refused(train, guidino, run: Path) -> None:
    from guidino_cli.engine.run_folders import lock_run_folder

    assert train().code == 0
    (run / "result.json").unlink()
    before = (run / "history.jsonl").read_bytes()
    with lock_run_folder(run):
        resumed = guidino("train", "--resume", "-o", run, "--device", "cpu")
        overwritten = train("--overwrite")
    for outcome in (resumed, overwritten):
        assert outcome.code == 2
        assert f"{run}: another guidino process writes to this run" in _one_line(outcome.stderr)
        assert (outcome.stdout, outcome.stderr.count("\n")) == ("", 1)
    assert (run / "history.jsonl").read_bytes() == before
    assert guidino("train", "--resume", "-o", run, "--device", "cpu").code == 0


def test_a_run_whose_folder_is_removed_stops_at_the_next_write(
    train, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    from guidino_cli.engine.training.trainer import Trainer

    original = Trainer._train_epoch

    def removing(self: Trainer) -> dict[str, float]:
        if self.state.epoch == 1:
            shutil.rmtree(run)
        return original(self)

    monkeypatch.setattr(Trainer, "_train_epoch", removing)
    outcome = train("--set", "train.epochs=3")
    assert outcome.code == 3
    assert f"{run}: the run folder was removed" in _one_line(outcome.stderr)
    assert not run.exists()
