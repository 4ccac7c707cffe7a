"""`guidino card`: a run as a folder to pass on, with a model card, and its upload to the Hugging Face hub."""

import re
from pathlib import Path

from guidino_cli.commands.card_facts import collect_facts
from guidino_cli.commands.card_scores import read_scores
from guidino_cli.commands.card_text import CardOptions, write_card
from guidino_cli.engine.prediction.ensemble import weights_hash
from guidino_cli.engine.runs.hub import require_hub_name, upload_model
from guidino_cli.engine.runs.sharing import is_model_folder, write_model_folder
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.files import atomic_folder, write_text
from guidino_cli.models.pretrained.catalogue import DINOV3_LICENCE, LICENCE_PAGES
from guidino_cli.options.card import ShareOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import log_info

_LARGEST_TEXT = 1_000_000


def run(run_path: Path, options: ShareOptions) -> None:
    """Write the folder, and upload it if that is asked for.

    Raises:
        ConfigError: The folder is in use, a report of another run, a licence that the weights cannot have, or an upload
            of weights derived from DINOv3 without a copy of its licence.
        DataError: No run folder, no report, or no text in the licence file.
        WeightsError: No trained weights, or the hub refuses.
    """
    hub_name = None if options.push is None else _require_place(options.push)
    _require_identifier(options.license)
    inputs = [run_path, *(options.scores or ())]
    overwrite = options.overwrite
    recognised = is_model_folder(options.out) if options.out.is_dir() and any(options.out.iterdir()) else None
    require_output_folder(options.out, inputs, overwrite=overwrite, recognised=recognised)
    digest = weights_hash(run_path)
    tables = [read_scores(place, weights=digest) for place in options.scores or ()]
    facts = collect_facts(run_path, tables)
    page = next((item.page for item in facts.licences if item.is_restrictive), None)
    origin = "DINOv3's" if page == LICENCE_PAGES[DINOV3_LICENCE] else "MedSigLIP's"
    if page is not None and options.license is not None:
        raise ConfigError(
            f"--license {options.license}: {run_path} holds weights that derive from {origin}, which may be passed "
            "on only under its licence; leave it out"
        )
    if page is not None and hub_name and options.license_file is None:
        raise ConfigError(
            f"--push {hub_name}: weights derived from {origin} may be passed on only with a copy of its licence; save "
            f"{page} as a text file and add --license-file FILE"
        )
    text = None if options.license_file is None else _read_text(options.license_file)
    # One line each, whatever was typed: they become a heading and an item of a list.
    name = " ".join((options.name or run_path.resolve().name).split())
    dataset = " ".join((options.dataset or "").split())
    card = write_card(facts, CardOptions(name, options.license, dataset, hub_name))
    with atomic_folder(options.out) as folder:
        write_model_folder(run_path, folder)
        write_text(folder / "README.md", card)
        if text is not None:
            write_text(folder / "LICENSE", text)
    size = sum(path.stat().st_size for path in options.out.rglob("*") if path.is_file())
    print(f"wrote {options.out}: {size / 1e6:.1f} MB; its card is {options.out / 'README.md'}")
    log_info("read the card before you share the folder: it states what was recorded, not what you know")
    for item in facts.licences:
        log_info(f"licence: {re.sub(r'[][]', '', item.text)}")
    if page is not None and text is None:
        log_info(f"add a copy of {origin} licence: --license-file FILE")
    if hub_name is None:
        print(f"use it: guidino predict {options.out} IMAGES -o MASKS")
        return
    address = upload_model(options.out, hub_name, private=not options.public)
    print(f"uploaded {address} ({'public' if options.public else 'private, if it is new'}); use it as hf:{hub_name}")


def _require_place(push: str) -> str:
    name, revision = require_hub_name(push, f"--push {push}")
    if revision is not None:
        raise ConfigError(f"--push {push}: uploads go to the main branch; leave out @{revision}")
    return name


def _require_identifier(licence: str | None) -> None:
    if licence is not None and not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", licence):
        raise ConfigError(
            f"--license {licence}: expected an identifier of the hub, such as apache-2.0, mit or cc-by-nc-4.0"
        )


def _read_text(path: Path) -> str:
    """Content of the licence file."""
    try:
        if path.stat().st_size > _LARGEST_TEXT:
            raise DataError(f"--license-file {path}: larger than 1 MB, expected the text of a licence")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"--license-file {path}: cannot be read ({reason}); expected the text of a licence") from error
    if not text.strip():
        raise DataError(f"--license-file {path}: is empty, expected the text of a licence")
    return text
