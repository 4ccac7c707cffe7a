"""`prepare` and `train` in Python, as the commands of the same names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from guidino_cli.api.settings import make_options, to_overrides
from guidino_cli.commands import prepare as prepare_command
from guidino_cli.commands import train as train_command
from guidino_cli.options.data import PrepareOptions
from guidino_cli.options.training import TrainCommandOptions


def prepare(source: str | Path, out: str | Path, **options: Any) -> Path:
    """Check images and masks, or volumes, and write a prepared folder, as `guidino prepare SOURCE -o OUT`.

    Args:
        source: Folder of the data, or a CSV of pairs.
        out: Folder to write.
        options: Those of the command line with underscores: `classes="background,polyp"`, `split="70/10/20"`,
            `folds=5`, `overwrite=True`; see `guidino prepare --help`.

    Returns:
        The folder, to be given to `train`.

    Raises:
        ConfigError: An unknown option, or one that cannot be used.
        DataError: Files that cannot be used or can be read in several ways.
        PartialError: With `skip_bad=True`: the folder is written, but without bad cases.
    """
    prepare_command.run(Path(source), make_options(PrepareOptions, {**options, "out": Path(out)}))
    return Path(out)


def train(
    preset: str | Path | None,
    data: str | Path | None,
    out: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    offline: bool = False,
) -> Path:
    """Train one run in this process, as `guidino train --preset PRESET --data DATA -o OUT`.

    Several seeds, folds or devices are several processes: use the command line for them.

    Args:
        preset: Name or path of a preset; None to resume.
        data: Folder that `prepare` wrote; None to resume.
        out: Run folder to write.
        settings: Settings, such as `{"train.epochs": 20}`, as `--set`.
        seed: Random seed of weights, order of cases, crops and augmentation.
        device: "cpu" or "cuda"; by default the best available.
        resume: Continue after the last saved step of `out`.
        overwrite: Start again in a folder that is not empty.
        offline: Never contact a model hub for the weights of a backbone.

    Returns:
        The run folder, to be given to `load_run`.

    Raises:
        ConfigError: Unknown preset or settings, or such that contradict each other.
        DataError: No prepared folder, or one without training cases.
        WeightsError: No weights of the backbone.
        ResourceError: Out of memory or disk space; the last saved state is kept.
    """
    train_command.run(
        TrainCommandOptions(
            preset=None if preset is None else str(preset),
            data=None if data is None else Path(data),
            out=Path(out),
            overrides=list(to_overrides(settings)),
            seed=seed,
            device=device,
            resume=resume,
            overwrite=overwrite,
            offline=offline,
        )
    )
    return Path(out)
