"""What the user types to find, bring in, check and download pretrained weights."""

from pathlib import Path
from typing import Annotated

import typer

from guidino_cli.cli.options import Offline, Overwrite

app = typer.Typer(
    help="""List, find, import, verify and download pretrained backbones.

    Example: guidino weights list""",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name of `guidino weights list`, a preset, a folder, a file or a hub id."),
]


@app.command("list", short_help="List the known backbones, and whether they are here.")
def list_weights() -> None:
    """List the known backbones: size, licence, and whether they are on this machine.

    Example: guidino weights list
    """
    from guidino_cli.commands.weights import listing as command

    command.run_list()


@app.command(short_help="Print the folder or file that would be loaded.")
def where(name: _Name) -> None:
    """Print the folder or file that would be loaded; exit code 4 if it is not on this machine.

    Example: guidino weights where kvasir-nnwnet
    """
    from guidino_cli.commands.weights import listing as command

    command.run_where(name)


@app.command("import", short_help="Convert a file of weights to a folder that loads.")
def import_weights(
    source: Annotated[
        Path, typer.Argument(metavar="FILE", help="A .pth or .safetensors file of Meta's or timm's, or a folder.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write, in Hugging Face layout.")],
    name: Annotated[
        str | None, typer.Option(help="What to call them; a known name is also checked as such by `verify`.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Convert a file of weights to a folder that guidino and transformers load: every tensor placed, or nothing.

    Example: guidino weights import dinov3_vits16_pretrain_lvd1689m-08c60483.pth -o weights/dinov3-vits16
    """
    from guidino_cli.commands.weights import importing as command

    command.run_import(source, out=out, name=name, overwrite=overwrite)


@app.command(short_help="Load weights strictly; compare them with what is known.")
def verify(
    name: _Name,
    image: Annotated[
        Path | None, typer.Option(help="The COCO picture 000000039769.jpg, to compare with published values.")
    ] = None,
    offline: Offline = False,
) -> None:
    """Load weights strictly, print SHA-256 and a feature fingerprint, and compare with what is known of them.

    Example: guidino weights verify weights/dinov3-vits16 --image 000000039769.jpg
    """
    from guidino_cli.commands.weights import verifying as command

    command.run_verify(name, image=image, offline=offline)


@app.command(short_help="Download weights from the hub.")
def download(
    name: _Name,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to fill; default: the shared cache.")] = None,
    offline: Offline = False,
) -> None:
    """Download weights from the hub, into its cache or a folder; size and licence are told first.

    Example: guidino weights download dinov2-small
    """
    from guidino_cli.commands.weights import downloading as command

    command.run_download(name, out=out, offline=offline)
