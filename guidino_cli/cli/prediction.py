"""The commands `guidino predict`, `guidino tune-post`, `guidino tune-risk` and `guidino visualize-guide`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.cli.run_checks import check_runs, find_hub_runs
from guidino_cli.errors import ConfigError
from guidino_cli.options.completion import complete_run
from guidino_cli.options.prediction import PredictOptions, TunePostOptions, TuneRiskOptions, VisualizeOptions

_Run = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=complete_run)]
_WHAT = "images or volumes, folders of them, or a prepared DATA folder"
_HELP = f"{_WHAT[0].upper()}{_WHAT[1:]}."
_Images = Annotated[list[Path], typer.Argument(metavar="IMAGES", help=_HELP)]


def _require_images(context: typer.Context, images: list[Path] | None) -> list[Path] | None:
    # Click runs the callbacks of parameters that were given before those of omitted ones, so --list is known here.
    if not images and context.params.get("list_file") is None and not context.resilient_parsing:
        raise ConfigError(f"IMAGES is missing: {_WHAT}; see `guidino predict --help`")
    return images


_ImagesOrList = Annotated[
    list[Path] | None,
    typer.Argument(metavar="IMAGES", help=f"{_HELP} May be left out with --list.", callback=_require_images),
]


@expand_dataclasses
def predict(
    run: _Run,
    images: _ImagesOrList = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the masks.")],
    options: PredictOptions,
) -> None:
    """Segment images or volumes with a trained run; masks have the grid and the names of their sources.

    Volumes are NIfTI, NRRD or MetaImage files, or the folder of a DICOM series.

    RUN may also be a folder of `guidino card`, or such a model of the Hugging Face hub as hf:ORGANISATION/NAME.

    Several processes may share one folder of masks: give each its --shard, or start all with torchrun.

    Example: guidino predict runs/kvasir new-images/ -o masks/ --overlay
    """
    run, *others = find_hub_runs([run, *(options.ensemble or ())], offline=options.offline)
    options = replace(options, ensemble=others or None)
    check_runs([run, *others], options.overrides)
    from guidino_cli.commands import predict as command

    command.run(run, images or [], out, options)


@expand_dataclasses
def tune_post(run: _Run, options: TunePostOptions) -> None:
    """Choose post-processing of masks on a run's validation cases, for `predict --post auto`.

    Largest component, filled holes and a minimum size are tried for every class; what does not help is not chosen. The
    choice is for masks of these runs with these settings: `predict` must be given the same.

    Example: guidino tune-post runs/kvasir
    """
    check_runs([run, *(options.ensemble or ())], options.overrides)
    from guidino_cli.commands import tune_post as command

    command.run(run, options)


@expand_dataclasses
def tune_risk(run: _Run, options: TuneRiskOptions) -> None:
    """Fit the expected Dice of masks, and bounds of their error, on a run's validation cases.

    The expected Dice of each mask, with its error, is always fitted: `predict` then writes it into its review list.
    With --risk, thresholds are chosen by conformal risk control, and `predict --risk` writes two more masks: an outer
    one that misses at most this share of the object, and an inner one of which at most this share is wrong, on
    average over cases. The fit is for masks of these runs with these settings: `predict` must be given the same.

    Example: guidino tune-risk runs/kvasir --risk 0.1 --of fnr
    """
    check_runs([run, *(options.ensemble or ())], options.overrides)
    from guidino_cli.commands import tune_risk as command

    command.run(run, options)


@expand_dataclasses
def visualize_guide(images: _Images, options: VisualizeOptions) -> None:
    """Draw and score the guide of a run, or draw the tokens of a frozen backbone.

    With a run: image, prediction, guide, and with truth the guide at several thresholds, IoU and AUROC of the guide
    alone. Without: principal components of the tokens as colours, and the cosine of every token with one patch.
    Several images get a contact sheet, prototypes.png and one page, guides.html, too. Of volumes, three planes are
    drawn, and projections of the guide.

    Example: guidino visualize-guide DATA --run runs/kvasir -o guides
    """
    from guidino_cli.commands import visualize_guide as command

    command.run(images, options)
