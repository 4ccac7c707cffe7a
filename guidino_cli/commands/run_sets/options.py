"""From a command line to the plan of a set of runs, new or to be continued."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from guidino_cli.commands.run_sets.plan import (
    SETTINGS_FILE,
    RunSetPlan,
    VariedSetting,
    is_run_set,
    load_plan,
    origin_run,
    parse_values,
    read_set_settings,
)
from guidino_cli.commands.runs import NO_PRESET
from guidino_cli.commands.runs.result import read_result
from guidino_cli.config import RunConfig, dump_config, load_config, load_preset, override, parse_config
from guidino_cli.data.manifest import MANIFEST_NAME as MANIFEST
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.run_folders import require_new_run_folder
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_sha256


def require_matching_runs(out: Path, plan: RunSetPlan, text: str | None) -> None:
    """Refuse runs that exist with other settings than those of the set, seed or fold apart, or of other data.

    Args:
        out: The set's folder.
        plan: Of the set.
        text: Content of `settings.yaml`; None where every run begins with one of `plan.origin`.

    Raises:
        ConfigError: The message names the run.
    """
    for value in plan.values:
        folder = out / plan.name(value)
        if not (folder / "config.yaml").is_file():
            continue
        config = load_config(folder / "config.yaml")
        found = config.seed if plan.over == "seed" else config.data.fold
        if found != value:
            raise ConfigError(f"{folder}: was trained with {plan.over} {found}; choose another -o, or --overwrite")
        if _comparable(config, plan.over) != _comparable(_planned(plan, text, value), plan.over):
            raise ConfigError(f"{folder}: was trained with other settings than the set's; choose another -o")
        _require_same_beginning(folder, plan, value)


def _planned(plan: RunSetPlan, text: str | None, value: int) -> RunConfig:
    """What a run of the set is trained with."""
    origin = origin_run(plan, value)
    if origin is not None:
        config = load_config(origin / "config.yaml")
    elif text is not None:
        config = parse_config(yaml.safe_load(text), label=SETTINGS_FILE)
    else:
        raise DataError(f"{SETTINGS_FILE} is missing from the set; begin it again with --overwrite")
    if plan.command != "lora-tune":
        return config
    words = [word for flag, word in pairwise(plan.settings) if flag == "--set"]
    frozen = ["train.freeze_heads=true"] if "--freeze-heads" in plan.settings else []
    return override(config, [*([] if config.model.lora else ["model.lora={}"]), *words, *frozen])


def _comparable(config: RunConfig, over: VariedSetting) -> RunConfig:
    """Without the description, which LoRA adds to, and the place of the data, which may be moved."""
    data = replace(config.data, root=None)
    if over == "seed":
        return replace(config, description="", data=data, seed=0)
    return replace(config, description="", data=replace(data, fold=None))


def _require_same_beginning(folder: Path, plan: RunSetPlan, value: int) -> None:
    """The same cases, and the same weights of the run that `lora-tune` began with; by their hashes."""
    path = folder / "run.json"
    if not path.is_file():
        return
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {"cases": facts["data"]["sha256"], "weights": facts.get("origin", {}).get("sha256")}
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove {folder} to train it again"
        ) from error
    origin = origin_run(plan, value)
    files = {} if origin is None else {"weights": origin / "best" / "model.safetensors"}
    if "--data" in plan.place:
        files["cases"] = Path(plan.place[plan.place.index("--data") + 1]) / MANIFEST
    for kind, file in files.items():
        if file.is_file() and file_sha256(file) != known[kind]:
            raise ConfigError(f"{folder}: was trained with other {kind} than {file}; choose another -o")


@dataclass(frozen=True)
class RunSetOptions:
    """The words of a command line; see `running.run`."""

    command: str
    seeds: str | None
    folds: str | None
    origin: Path | None
    preset: str | None
    data: Path | None
    overrides: Sequence[str]
    seed: int | None
    flags: Sequence[str]
    place: Sequence[str]

    @property
    def over(self) -> VariedSetting:
        """What the runs differ in; without a word about it, a set to go on with says so itself."""
        return "seed" if self.folds is None else "fold"

    @property
    def start(self) -> str | None:
        """The run, or set of runs, that all begin with."""
        return None if self.origin is None else str(self.origin.resolve())

    @property
    def where(self) -> list[str]:
        """Words that every run gets, new or resumed."""
        if self.data is None:
            return list(self.place)
        folder = self.data.parent if self.data.name == MANIFEST else self.data
        return ["--data", str(folder.resolve()), *self.place]

    @property
    def settles(self) -> bool:
        """Whether a word settles what is trained."""
        return bool(self.preset or self.overrides or self.flags or self.seed is not None)


def make_plan(asked: RunSetOptions, out: Path, *, resume: bool, may_hold_files: bool) -> tuple[RunSetPlan, str | None]:
    """The plan of a set, and the preset's content that its runs begin with, None where no preset is named.

    Args:
        asked: The words.
        out: The set's folder.
        resume: Go on with the set that is there, if one is.
        may_hold_files: A new set may lie in a folder that is not empty.

    Raises:
        ConfigError: Words that do not go together, or a folder that is not empty.
        DataError: No such folds.
    """
    values = _values(asked)
    _require_sense(asked, values)
    settings, text = _settings(asked)
    if resume and is_run_set(out):
        plan = _resumed(asked, out, values, settings, text)
    else:
        plan = _begun(asked, out, values, settings, text)
        require_new_run_folder(out, overwrite=may_hold_files)
    _require_origins(plan)
    if plan.over == "fold":
        _require_folds(plan, count=int(asked.folds) if asked.folds is not None and asked.folds.isdigit() else None)
    return plan, text


def _values(asked: RunSetOptions) -> list[int] | None:
    text = asked.folds or asked.seeds
    return parse_values(text, f"--{asked.over}s") if text else None


def _require_sense(asked: RunSetOptions, values: Sequence[int] | None) -> None:
    if asked.seeds is not None and asked.folds is not None:
        raise ConfigError("--seeds and --folds: one at a time; train a set of folds for every --seed instead")
    if values is None:
        return
    over, key = asked.over, "seed" if asked.over == "seed" else "data.fold"
    if (over == "seed" and asked.seed is not None) or any(item.partition("=")[0] == key for item in asked.overrides):
        raise ConfigError(f"--{over}s: gives every run its {key}; leave out --seed and --set {key}")


def _settings(asked: RunSetOptions) -> tuple[list[str], str | None]:
    """Words that settle what is trained, and the preset's content: the file may change while the runs go on."""
    overrides = [*asked.overrides, *([] if asked.seed is None else [f"seed={asked.seed}"])]
    sets = [word for item in overrides for word in ("--set", item)]
    if asked.preset is None:
        return [*asked.flags, *sets], None
    if asked.command == "train":
        return [*asked.flags], dump_config(load_preset(asked.preset, overrides))
    # Some settings of lora-tune fit no preset before LoRA is switched on.
    return [*asked.flags, *sets], dump_config(load_preset(asked.preset))


def _begun(
    asked: RunSetOptions, out: Path, values: list[int] | None, settings: list[str], text: str | None
) -> RunSetPlan:
    """The plan of a new set."""
    if values is None:
        raise ConfigError(f"{out}: no set of runs to go on with; begin one with --seeds 3 or --folds 5")
    if text is None and asked.origin is None:
        raise ConfigError(NO_PRESET)
    return RunSetPlan(asked.command, asked.over, values, settings, asked.where, asked.start)


def _resumed(
    asked: RunSetOptions, out: Path, values: list[int] | None, settings: list[str], text: str | None
) -> RunSetPlan:
    """The plan of a set to go on with, with more values if they are asked for."""
    plan = load_plan(out)
    if values is not None:
        if asked.over != plan.over or not set(plan.values) <= set(values):
            have = ",".join(map(str, plan.values))
            raise ConfigError(f"{out}: is a set of {plan.over}s {have}; --resume goes on with these, or adds to them")
        plan = replace(plan, values=values)
    if asked.settles and (settings, text) != (plan.settings, read_set_settings(out)):
        raise ConfigError(f"{out}: --resume goes on with the set's own settings; leave out --preset, --set, --seed")
    # The origin may have been moved; runs that exist began with the same weights, or are refused later.
    return replace(plan, place=asked.where or plan.place, origin=asked.start or plan.origin)


def _require_origins(plan: RunSetPlan) -> None:
    """What lora-tune begins with: one run for all seeds, or a run each; over folds only a run each."""
    if plan.origin is None:
        return
    origin = Path(plan.origin)
    if not is_run_set(origin):
        if plan.over == "fold":
            raise ConfigError(
                f"{origin}: one run for all folds has seen the cases that folds validate on; "
                "give a set of folds, made by `guidino train --folds`"
            )
        return
    missing = [name for name in map(plan.name, plan.values) if read_result(origin / name) is None]
    if missing:
        raise ConfigError(f"{origin}: has no finished {', '.join(missing)}; train them first")


def _require_folds(plan: RunSetPlan, *, count: int | None) -> None:
    """`DataError` unless the data has the folds, as many as `count` if given, and none shares a group with another."""
    if "--data" not in plan.place:
        if plan.origin is None:
            raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare --folds 5`")
        return
    folder = Path(plan.place[plan.place.index("--data") + 1])
    cases = [case for case in load_manifest(folder).cases if case.fold is not None]
    known = sorted({case.fold for case in cases if case.fold is not None})
    if not known:
        wanted = count or max(plan.values) + 1
        raise DataError(f"{folder}: has no folds; make them with `guidino prepare SOURCE -o DATA --folds {wanted}`")
    if count is not None and count != len(known):
        raise DataError(f"--folds {count}: the data has {len(known)} folds ({folder}); give --folds {len(known)}")
    if not set(plan.values) <= set(known):
        asked = ",".join(map(str, plan.values))
        raise DataError(f"--folds {asked}: the data has folds {known[0]}..{known[-1]} ({folder})")
    fold_of: dict[str, int | None] = {}
    for case in cases:
        if fold_of.setdefault(case.group, case.fold) != case.fold:
            raise DataError(f"{folder}: group {case.group} is in two folds, so validation would see training patients")
