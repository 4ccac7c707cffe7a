"""The plan of a set of runs from a command line, new or resumed, and the checks that its runs fit together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

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
from guidino_cli.data.manifest import MANIFEST_NAME, load_manifest, manifest_sha256
from guidino_cli.engine.run_folders import require_new_run_folder
from guidino_cli.engine.runs.facts import FACTS_FILE, read_run_facts
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import file_sha256
from guidino_cli.options.argv import option_values, to_argv
from guidino_cli.options.training import TrainOptions
from guidino_cli.yaml_files import parse_yaml


def require_matching_runs(out: Path, plan: RunSetPlan, text: str | None) -> None:
    """Require that existing runs have the settings of the set, seed or fold apart, and its data and start weights.

    Args:
        out: The set's folder.
        plan: The set's plan.
        text: Content of `settings.yaml`; None if every run starts from one of `plan.origin`.

    Raises:
        ConfigError: A run does not match; the message names it.
    """
    for value in plan.values:
        folder = out / plan.name(value)
        if not (folder / "config.yaml").is_file():
            continue
        config = load_config(folder / "config.yaml")
        found = config.seed if plan.over == "seed" else config.data.fold
        if found != value:
            raise ConfigError(f"{folder}: was trained with {plan.over} {found}; choose another -o, or --overwrite")
        if not _comparable(config, plan.over).is_made_from(_comparable(_planned_config(plan, text, value), plan.over)):
            raise ConfigError(f"{folder}: was trained with other settings than the set's; choose another -o")
        _require_same_start(folder, plan, value)


def _planned_config(plan: RunSetPlan, text: str | None, value: int) -> RunConfig:
    """Configuration that a run of the set is trained with."""
    origin = origin_run(plan, value)
    if text is not None:
        config = parse_config(parse_yaml(text, label=SETTINGS_FILE), label=SETTINGS_FILE)
    elif origin is not None:
        config = load_config(origin / "config.yaml")
    else:
        raise DataError(f"{SETTINGS_FILE} is missing from the set; start it again with --overwrite")
    overrides = [value for flag, value in pairwise(plan.settings) if flag == "--set"]
    if plan.command != "lora-tune":
        return override(config, overrides)
    frozen = ["train.freeze_heads=true"] if "--freeze-heads" in plan.settings else []
    return override(config, [*([] if config.model.lora else ["model.lora={}"]), *overrides, *frozen])


def _comparable(config: RunConfig, over: VariedSetting) -> RunConfig:
    """The configuration without the description, which LoRA adds to, and the path of the data, which may be moved."""
    data = replace(config.data, root=None)
    if over == "seed":
        return replace(config, description="", data=data, seed=0)
    return replace(config, description="", data=replace(data, fold=None))


def _require_same_start(folder: Path, plan: RunSetPlan, value: int) -> None:
    """Compare the hashes of the cases, and of the weights that `lora-tune` started from."""
    if not (folder / FACTS_FILE).is_file():
        return
    facts = read_run_facts(folder)
    known = {"cases": facts["data"]["sha256"], "weights": facts.get("origin", {}).get("sha256")}
    origin = origin_run(plan, value)
    files = {} if origin is None else {"weights": origin / "best" / "model.safetensors"}
    if "--data" in plan.place:
        files["cases"] = Path(plan.place[plan.place.index("--data") + 1]) / MANIFEST_NAME
    for kind, file in files.items():
        digest = manifest_sha256 if kind == "cases" else file_sha256
        if file.is_file() and digest(file) != known[kind]:
            raise ConfigError(f"{folder}: was trained with other {kind} than {file}; choose another -o")


# Options that a run needs again when it is resumed, and those that change what is trained.
_RUNTIME_OPTIONS = ("device", "devices", "offline", "merge")
_SETTING_OPTIONS = ("freeze-heads",)


@dataclass(frozen=True)
class RunSetRequest:
    """A command line that asks for a set of runs.

    Attributes:
        command: "train" or "lora-tune".
        options: Options of the command.
        base_run: RUN of `lora-tune` or `train --from`: the run, or set of runs, that the runs start from.
    """

    command: str
    options: TrainOptions
    base_run: Path | None = None

    @property
    def over(self) -> VariedSetting:
        """Setting that the runs differ in; "seed" for a resumed set, which knows its own."""
        return "seed" if self.options.folds is None else "fold"

    @property
    def origin(self) -> str | None:
        """Absolute path of `base_run`."""
        return None if self.base_run is None else str(self.base_run.resolve())

    @property
    def setting_argv(self) -> list[str]:
        """Arguments other than --set that change what is trained."""
        return self._argv(_SETTING_OPTIONS)

    @property
    def runtime_argv(self) -> list[str]:
        """Arguments that every run gets, new or resumed."""
        argv = self._argv(_RUNTIME_OPTIONS)
        if self.options.data is None:
            return argv
        data = self.options.data
        return ["--data", str((data.parent if data.name == MANIFEST_NAME else data).resolve()), *argv]

    @property
    def changes_settings(self) -> bool:
        """Whether an argument changes what is trained."""
        options = self.options
        return bool(options.preset or options.overrides or self.setting_argv or options.seed is not None)

    def _argv(self, names: Sequence[str]) -> list[str]:
        return to_argv({name: value for name, value in option_values(self.options).items() if name in names})


def make_plan(request: RunSetRequest, out: Path) -> tuple[RunSetPlan, str | None]:
    """Plan the runs of a set, new or resumed.

    Args:
        request: The command line.
        out: The set's folder.

    Returns:
        The plan, and the content of the preset that its runs start with, None if no preset is named.

    Raises:
        ConfigError: Options that do not go together, or a folder that is not empty.
        DataError: The data has no such folds.
    """
    options = request.options
    values = _values(request)
    _require_consistent(request, values)
    settings, text = _settings(request)
    if options.resume and is_run_set(out):
        plan = _resumed_plan(request, out, values, settings, text)
    else:
        plan = _new_plan(request, out, values, settings, text)
        require_new_run_folder(out, overwrite=options.resume or options.overwrite or options.dry_run)
    _require_origins(plan)
    if plan.over == "fold":
        _require_folds(
            plan, count=int(options.folds) if options.folds is not None and options.folds.isdigit() else None
        )
    return plan, text


def _values(request: RunSetRequest) -> list[int] | None:
    text = request.options.folds or request.options.seeds
    return parse_values(text, f"--{request.over}s") if text else None


def _require_consistent(request: RunSetRequest, values: Sequence[int] | None) -> None:
    options, over = request.options, request.over
    if options.seeds is not None and options.folds is not None:
        raise ConfigError("--seeds and --folds: give one of them; train a set of folds for every --seed instead")
    if values is None:
        return
    key = "seed" if over == "seed" else "data.fold"
    is_set_twice = any(item.partition("=")[0] == key for item in options.overrides or ())
    if (over == "seed" and options.seed is not None) or is_set_twice:
        raise ConfigError(f"--{over}s: sets the {key} of every run; leave out --seed and --set {key}")


def _settings(request: RunSetRequest) -> tuple[list[str], str | None]:
    """Arguments that change what is trained, and the preset's content: the file may change while the runs train."""
    options, flags = request.options, request.setting_argv
    overrides = [*(options.overrides or []), *([] if options.seed is None else [f"seed={options.seed}"])]
    if options.preset is not None and request.command == "train":
        return flags, dump_config(load_preset(options.preset, overrides))
    # Some settings of lora-tune are invalid in a preset before LoRA is switched on.
    text = None if options.preset is None else dump_config(load_preset(options.preset))
    return [*flags, *to_argv({"set": overrides})], text


def _new_plan(
    request: RunSetRequest, out: Path, values: list[int] | None, settings: list[str], text: str | None
) -> RunSetPlan:
    if values is None:
        raise ConfigError(f"{out}: no set of runs to resume; start one with --seeds 3 or --folds 5")
    if text is None and request.base_run is None:
        raise ConfigError(NO_PRESET)
    return RunSetPlan(request.command, request.over, values, settings, request.runtime_argv, request.origin)


def _resumed_plan(
    request: RunSetRequest, out: Path, values: list[int] | None, settings: list[str], text: str | None
) -> RunSetPlan:
    """The plan of the set in `out`, with further values if they are requested."""
    plan = load_plan(out)
    if values is not None:
        if request.over != plan.over or not set(plan.values) <= set(values):
            known = ",".join(map(str, plan.values))
            raise ConfigError(f"{out}: is a set of {plan.over}s {known}; --resume resumes these, or adds to them")
        plan = replace(plan, values=values)
    if request.changes_settings and (settings, text) != (plan.settings, read_set_settings(out)):
        raise ConfigError(f"{out}: --resume uses the set's own settings; leave out --preset, --set, --seed")
    # The origin may have been moved; existing runs started from the same weights, or are refused later.
    return replace(plan, place=request.runtime_argv or plan.place, origin=request.origin or plan.origin)


def _require_origins(plan: RunSetPlan) -> None:
    """Require finished runs to start from: one for all seeds, or one each; over folds one each."""
    if plan.origin is None:
        return
    origin = Path(plan.origin)
    if not is_run_set(origin):
        if plan.over == "fold" and _is_trained_on(origin, plan.place):
            raise ConfigError(
                f"{origin}: one run for all folds was trained on cases that the folds validate on; "
                "give a set of folds, made by `guidino train --folds`"
            )
        return
    missing = [name for name in map(plan.name, plan.values) if read_result(origin / name) is None]
    if missing:
        raise ConfigError(f"{origin}: has no finished {', '.join(missing)}; train them first")


def _is_trained_on(run: Path, place: Sequence[str]) -> bool:
    """Whether the data of a set, by default that of the run it starts from, are those of this run."""
    if "--data" not in place:
        return True
    manifest = Path(place[place.index("--data") + 1]) / MANIFEST_NAME
    recorded = read_run_facts(run)["data"]["sha256"]
    return not manifest.is_file() or manifest_sha256(manifest) == recorded


def _require_folds(plan: RunSetPlan, *, count: int | None) -> None:
    """`DataError` unless the data has the folds, exactly `count` if given, and no group is in two of them."""
    if "--data" not in plan.place:
        if plan.origin is None:
            raise ConfigError("no data: add --data DATA, a folder made by `guidino prepare --folds 5`")
        return
    folder = Path(plan.place[plan.place.index("--data") + 1])
    cases = [case for case in load_manifest(folder, takes_instances=True).cases if case.fold is not None]
    known = sorted({case.fold for case in cases if case.fold is not None})
    if not known:
        wanted = count or max(plan.values) + 1
        raise DataError(f"{folder}: has no folds; make them with `guidino prepare SOURCE -o DATA --folds {wanted}`")
    if count is not None and count != len(known):
        raise DataError(f"--folds {count}: the data has {len(known)} folds ({folder}); give --folds {len(known)}")
    if not set(plan.values) <= set(known):
        requested = ",".join(map(str, plan.values))
        raise DataError(f"--folds {requested}: the data has folds {known[0]}..{known[-1]} ({folder})")
    fold_of: dict[str, int | None] = {}
    for case in cases:
        if fold_of.setdefault(case.group, case.fold) != case.fold:
            raise DataError(f"{folder}: group {case.group} is in two folds, so validation would see training patients")
