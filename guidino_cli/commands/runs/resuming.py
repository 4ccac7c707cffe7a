"""Options that `--resume` would ignore: refuse them, before torch is imported."""

from pathlib import Path
from typing import Any

from guidino_cli.data.manifest import MANIFEST_NAME, manifest_sha256
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_sha256
from guidino_cli.json_files import read_json_object
from guidino_cli.options.training import TrainOptions

CONTRADICTION = "--resume continues what is in -o, --overwrite starts it again; give one of them"


def require_resumable(options: TrainOptions, *, base_run: Path | None) -> None:
    """Refuse options of `train` and `lora-tune` that a resumed run or set of runs would not follow.

    Settings (`--preset`, `--set`, `--seed`) are compared where they are read.

    Args:
        options: Options of the command, with `resume`.
        base_run: RUN of `lora-tune` or `train --from`, if it is given.

    Raises:
        ConfigError: The option that contradicts the run.
        DataError: `--data` is not the data of the run.
    """
    if options.overwrite:
        raise ConfigError(CONTRADICTION)
    out = options.out
    if out is None or not (out / "config.yaml").is_file():
        return
    for name, value in (("--seeds", options.seeds), ("--folds", options.folds)):
        if value is not None:
            raise ConfigError(f"{name} {value}: {out} is one run and no set of runs; leave out {name}")
    facts = _facts(out)
    if options.data is not None:
        _require_same_data(options.data, facts.get("data"))
    if base_run is not None:
        _require_same_origin(out, base_run, facts.get("origin"))


def _facts(out: Path) -> dict[str, Any]:
    """Content of `run.json`, or nothing where it is missing or damaged, which the command itself reports."""
    try:
        return read_json_object(out / "run.json", hint="")
    except DataError:
        return {}


def _require_same_data(data: Path, recorded: object) -> None:
    cases = data if data.name == MANIFEST_NAME else data / MANIFEST_NAME
    sha256 = recorded.get("sha256") if isinstance(recorded, dict) else None
    if sha256 is not None and cases.is_file() and manifest_sha256(cases) != sha256:
        raise DataError(
            f"{cases}: has changed since the run started, or is not its data; leave out --data, or start a new run "
            "with another -o"
        )


def _require_same_origin(out: Path, base_run: Path, recorded: object) -> None:
    weights = base_run / "best" / "model.safetensors"
    sha256 = recorded.get("sha256") if isinstance(recorded, dict) else None
    if not weights.is_file() or file_sha256(weights) != sha256:
        origin = recorded.get("run") if isinstance(recorded, dict) else None
        started = f"did not start from {base_run}" + (f", but from {origin}" if origin else "")
        if isinstance(origin, str) and Path(origin).resolve() == base_run.resolve():
            started = f"started from {base_run}, but {base_run} has changed since"
        raise ConfigError(f"{out}: {started}; to resume it, give only -o {out}")
