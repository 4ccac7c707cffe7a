"""The commands `guidino card`, `doctor`, `example`, `models`, `export` and `weights`."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.dataclass_options import expand_dataclasses
from guidino_cli.cli.run_checks import check_runs
from guidino_cli.options.card import ShareOptions
from guidino_cli.options.completion import complete_run
from guidino_cli.options.export import ExportOptions
from guidino_cli.options.shared import Offline, Overwrite


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    self_test: Annotated[bool, typer.Option(help="Train, predict and evaluate on synthetic images.")] = True,
) -> None:
    """Check this installation: versions, devices, memory, weights, extras, writable folders, and a short self-test.

    The exit code is 0 if everything that guidino needs is there, else the code of the first failed check.

    Example: guidino doctor
    """
    from guidino_cli.commands import doctor as command

    command.run(as_json=as_json, self_test=self_test)


def example(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder in which the folder examples is written.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older folder examples.")] = False,
) -> None:
    """Write the example data, 66 tiles with masks, and the scripts that show the whole job on them.

    Example: guidino example -o try && try/examples/quickstart.sh
    """
    from guidino_cli.commands import example as command

    command.run(out, overwrite=overwrite)


def models(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME", help="Networks to describe.")] = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Add multiply-adds, memory and duration of a training step.")
    ] = False,
    size: Annotated[int, typer.Option(min=16, help="Side of the measured image in pixels.")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown instead of a table.")] = False,
) -> None:
    """List the segmentation networks, or describe some: paper, weights, where a guide can act, options, presets.

    Example: guidino models nnwnet --measure
    """
    from guidino_cli.commands import models as command

    forms = {"json": as_json, "csv": as_csv, "markdown": as_markdown}
    form = next((name for name, wanted in forms.items() if wanted), "table")
    command.run(names or [], measure=measure, side=size, form=form)


@expand_dataclasses
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=complete_run)],
    options: ExportOptions,
) -> None:
    """Export a run's network as one file for torch or ONNX Runtime, after comparing its output with the run's.

    Its input is windows of the run's size. FILE.json lists all steps from an image to its mask: resizing, windows,
    mirroring and what else `predict` does around the network. examples/onnx_predict.py does them with numpy.

    A MONAI bundle holds the network as .pt2, these steps as a script, metadata and the model card; `python -m
    monai.bundle run` makes the same masks with it, without guidino.

    A folder for OpenVINO is predicted with as a run is, faster on CPUs: guidino predict FOLDER IMAGES -o MASKS. With
    --int8 it is faster still; it is kept only if the mean Dice of the validation cases of DATA hardly falls.

    Example: guidino export runs/kvasir -o kvasir.onnx

    Example: guidino export runs/kvasir -o kvasir-int8 --openvino --int8 --calibrate data/kvasir
    """
    check_runs([run])
    from guidino_cli.commands.export_options import check_export_options

    check_export_options(options)
    if options.openvino:
        from guidino_cli.commands import export_openvino

        export_openvino.run(run, options)
    elif options.monai_bundle:
        from guidino_cli.commands import export_bundle

        export_bundle.run(run, options)
    else:
        from guidino_cli.commands import export as command

        command.run(run, options)


@expand_dataclasses
def card(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.", autocompletion=complete_run)],
    options: ShareOptions,
) -> None:
    """Write a run as a folder to share: its weights, its settings and a model card, in Hugging Face layout.

    The card states classes, training data, settings, scores with intervals, limits, and the licences of what the
    weights derive from. Absolute paths of this machine are left out. `guidino predict` takes the folder as a run and
    makes the same masks. --push uploads it, with the login of `hf auth login`.

    Example: guidino card runs/kvasir -o kvasir-model --scores report --license cc-by-nc-4.0
    """
    check_runs([run])
    from guidino_cli.commands import card as command

    command.run(run, options)


app = typer.Typer(
    help="""List, find, import, verify and download pretrained backbones.

    Example: guidino weights list""",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name from `guidino weights list`, a preset, a folder, a file or a hub id."),
]


@app.command("list", short_help="List the known backbones and where they are.")
def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """List the known backbones: size, licence, and whether they are on this machine.

    Example: guidino weights list
    """
    from guidino_cli.commands import weights_list as command

    command.run(as_json=as_json)


@app.command(short_help="Print the folder or file that would be loaded.")
def where(name: _Name) -> None:
    """Print the folder or file that would be loaded; exit code 4 if it is not on this machine.

    Example: guidino weights where kvasir-nnwnet
    """
    from guidino_cli.commands import weights as command

    command.run_where(name)


@app.command("import", short_help="Convert a file of weights to a folder that loads.")
def import_weights(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .pth or .safetensors file of Meta or timm, or a folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, in Hugging Face layout.")],
    name: Annotated[
        str | None, typer.Option(help="Name to record; `verify` compares known names with published hashes.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(metavar="R,G,B", help="Mean of its images in [0, 1]; default: as the weights state.")
    ] = None,
    std: Annotated[str | None, typer.Option(metavar="R,G,B", help="Standard deviation likewise.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a file of weights to a folder that guidino and transformers load; every tensor must be used.

    Example: guidino weights import dinov3_vits16_pretrain_lvd1689m-08c60483.pth -o weights/dinov3-vits16
    """
    from guidino_cli.commands import weights as command

    command.run_import(source, out=out, name=name, overwrite=overwrite, mean=mean, std=std)


@app.command(short_help="Load weights strictly; compare published values.")
def verify(
    name: _Name,
    image: Annotated[
        Path | None, typer.Option(help="The COCO image 000000039769.jpg, to compare with published features.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Load weights strictly, print SHA-256 and a feature fingerprint, and compare them with published values.

    Example: guidino weights verify weights/dinov3-vits16 --image 000000039769.jpg
    """
    from guidino_cli.commands import weights_verify as command

    command.run_verify(name, image=image, offline=offline)


@app.command(short_help="Download weights from the hub.")
def download(
    name: _Name,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to fill; default: the shared cache.")] = None,
    ungated: Annotated[
        bool, typer.Option("--ungated", help="Use an ungated copy of gated weights; the licence is the same.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Download weights from the hub, into its cache or a folder, after printing size and licence.

    An interrupted download is resumed. HF_ENDPOINT names a mirror of the hub.

    Example: guidino weights download dinov3-vits16 --ungated -o weights/dinov3-vits16
    """
    from guidino_cli.commands import weights as command

    command.run_download(name, out=out, offline=offline, ungated=ungated)
