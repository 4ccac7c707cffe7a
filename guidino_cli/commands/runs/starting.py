"""Folder and settings of a run to train: new, started from another run, resumed, or restarted by torchrun."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from guidino_cli.commands.runs import NO_PRESET
from guidino_cli.config import RunConfig, load_preset, override
from guidino_cli.engine.runs.extending import EXTENDABLE, extend_schedule
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.runs.loading import BaseRun
from guidino_cli.engine.runs.transfer import TransferredRun
from guidino_cli.errors import ConfigError
from guidino_cli.options.training import LoraTuneOptions, TrainCommandOptions, TrainOptions


def default_run_folder(preset: str) -> Path:
    """Folder of a run of a preset if none is given."""
    return Path("runs") / Path(preset).stem


def make_new_run(options: TrainCommandOptions) -> tuple[RunFolder, RunConfig, BaseRun | None]:
    """Folder and settings of a new run, and the run that it starts from if there is one."""
    source, overrides = options.base_run, requested_overrides(options)
    if source is None and options.preset is None:
        raise ConfigError(NO_PRESET)
    if options.out is None:
        raise ConfigError("--from RUN needs a folder for the new run: add -o OUT")
    folder = RunFolder(options.out)
    if source is None:
        return folder, load_preset(str(options.preset), overrides), None
    if options.out.resolve() == source.resolve():
        raise ConfigError(f"-o {options.out}: is the RUN of --from, which is not changed; choose another folder")
    base_run = TransferredRun(RunFolder(source))
    if options.preset is not None:
        config = load_preset(options.preset, overrides)
    else:
        # Settings that contradict each other are the run's as a rule, not typed.
        changes = "".join(f" --set {item}" for item in overrides)
        label = f"settings of {source}" + (f" with{changes}" if changes else "")
        config = override(base_run.folder.config(), overrides, label=label)
    base_run.require_usable(config.model)
    return folder, config, base_run


def requested_overrides(options: TrainOptions) -> list[str]:
    """Overrides by --set, --seed and --freeze-heads."""
    seed = [] if options.seed is None else [f"seed={options.seed}"]
    frozen = isinstance(options, LoraTuneOptions) and options.freeze_heads
    return [*(options.overrides or []), *seed, *(["train.freeze_heads=true"] if frozen else [])]


def resolve_restart(options: TrainOptions) -> TrainOptions:
    """Resume or overwrite after a restart: torchrun restarts lost processes with their first command line."""
    if options.out is None or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) == 0:
        return options
    # Files without a state were left by the start that was lost.
    can_resume = RunFolder(options.out).has_state()
    return replace(options, resume=can_resume, overwrite=not can_resume)


def load_resumable_run(options: TrainOptions) -> tuple[RunFolder, RunConfig]:
    """Folder and settings of the run to resume, perhaps with more epochs; `ConfigError` for other settings."""
    if options.out is None:
        raise ConfigError("--resume needs the run: add -o RUN")
    folder = RunFolder(options.out)
    config = folder.config()
    overrides = requested_overrides(options)
    config = extend_schedule(folder, config, overrides)
    if options.preset is not None and not _is_made_from(
        folder, config, options.preset, overrides, lora=isinstance(options, LoraTuneOptions)
    ):
        raise ConfigError(
            f"{folder.path}: --resume uses the run's own settings, which differ from preset {options.preset}; leave "
            "out --preset, or start a new run with another -o"
        )
    return folder, config


def _is_made_from(folder: RunFolder, config: RunConfig, preset: str, overrides: Sequence[str], *, lora: bool) -> bool:
    """Whether a run has the settings of a preset with these overrides, apart from the place of the data."""
    requested = load_preset(preset)
    adapted = lora and requested.model.lora is None
    requested = override(requested, ["model.lora={}"] if adapted else [])
    requested = replace(requested, data=replace(requested.data, root=config.data.root))
    if config.is_made_from(override(requested, overrides)):
        return True
    # A run that `train.min_steps` made longer kept the warm-up of the epochs that it began with when it was extended.
    kept = [item for item in overrides if item.partition("=")[0].strip() not in EXTENDABLE]
    return _as_begun(folder).is_made_from(override(requested, kept))


def _as_begun(folder: RunFolder) -> RunConfig:
    """The settings of a run before it was first extended."""
    config, extended = folder.config(), folder.facts().get("extended", [])
    if not extended:
        return config
    return replace(config, train=replace(config.train, epochs=extended[0]["epochs"], patience=extended[0]["patience"]))
