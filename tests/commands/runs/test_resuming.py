"""Options that a resumed run would ignore are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.commands.runs.resuming import require_resumable
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_sha256
from guidino_cli.options.training import LoraTuneOptions, TrainOptions


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in `run`, tuned from `base` on the data in `data`."""
    for name in ("run", "base/best", "data"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "data" / "cases.json").write_text("{}")
    (tmp_path / "base" / "best" / "model.safetensors").write_bytes(b"weights")
    facts = {
        "data": {"sha256": file_sha256(tmp_path / "data" / "cases.json")},
        "origin": {
            "run": str(tmp_path / "base"),
            "sha256": file_sha256(tmp_path / "base" / "best" / "model.safetensors"),
        },
    }
    (tmp_path / "run" / "run.json").write_text(json.dumps(facts))
    (tmp_path / "run" / "config.yaml").touch()
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overwrite": True}, "--resume continues what is in -o, --overwrite starts it again"),
        ({"seeds": "3"}, "--seeds 3: .*run is one run and no set of runs"),
        ({"folds": "5"}, "--folds 5: .*run is one run and no set of runs"),
    ],
)
def test_options_of_another_kind_of_start_are_refused(run: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_resumable(TrainOptions(out=run, resume=True, **options), base_run=None)


@pytest.mark.parametrize("name", ["data", "data/cases.json"])
def test_other_data_are_refused_and_moved_data_are_not(run: Path, tmp_path: Path, name: str) -> None:
    options = TrainOptions(out=run, resume=True, data=tmp_path / name)
    require_resumable(options, base_run=None)
    (tmp_path / "data" / "cases.json").write_text("[]")
    with pytest.raises(DataError, match="has changed since the run started, or is not its data"):
        require_resumable(options, base_run=None)


def test_another_run_to_tune_from_is_refused(run: Path, tmp_path: Path) -> None:
    options = LoraTuneOptions(out=run, resume=True)
    require_resumable(options, base_run=tmp_path / "base")
    (tmp_path / "other" / "best").mkdir(parents=True)
    (tmp_path / "other" / "best" / "model.safetensors").write_bytes(b"others")
    with pytest.raises(ConfigError, match=r"run: did not start from .*other, but from \S+base; .*give only -o"):
        require_resumable(options, base_run=tmp_path / "other")


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_was_started_from_and_has_changed_is_not_called_another(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: bool
) -> None:
    """Extending the first run replaces its weights; the two paths of it, one relative, are the same folder."""
    weights = tmp_path / "base" / "best" / "model.safetensors"
    weights.unlink() if gone else weights.write_bytes(b"others")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"run: started from base, but base has changed since; to resume .*only -o"):
        require_resumable(TrainOptions(out=run, resume=True), base_run=Path("base"))


def test_a_run_from_a_preset_did_not_start_from_a_run(run: Path, tmp_path: Path) -> None:
    (run / "run.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"did not start from .*base; to resume it, give only -o"):
        require_resumable(LoraTuneOptions(out=run, resume=True), base_run=tmp_path / "base")


def test_a_set_of_runs_may_get_further_seeds(tmp_path: Path) -> None:
    require_resumable(TrainOptions(out=tmp_path, resume=True, seeds="5"), base_run=None)


def test_the_data_may_be_named_again_also_where_they_were_prepared_at_another_time(run: Path, tmp_path: Path) -> None:
    """The run's hash is that of the same text without its times."""
    cases = tmp_path / "data" / "cases.json"
    cases.write_text('{"image_record": {"size": 3, "sha256": "ab"}}')
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"data": {"sha256": file_sha256(cases)}}))
    options = TrainOptions(out=run, resume=True, data=tmp_path / "data")
    for time in (17, 18):
        cases.write_text(f'{{"image_record": {{"size": 3, "mtime_ns": {time}, "sha256": "ab"}}}}')
        require_resumable(options, base_run=None)
    cases.write_text('{"image_record": {"size": 4, "mtime_ns": 17, "sha256": "ab"}}')
    with pytest.raises(DataError, match="has changed since the run started"):
        require_resumable(options, base_run=None)
