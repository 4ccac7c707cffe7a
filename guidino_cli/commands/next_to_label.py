"""`guidino next-to-label`: rank unlabelled images by how little the labels of a few-label run settle them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidino_cli.commands.fewshot_files import leave_out_copies
from guidino_cli.commands.fewshot_inputs import DATA_FOLDER
from guidino_cli.config import RunConfig
from guidino_cli.data.cases import read_pair
from guidino_cli.data.images import find_images
from guidino_cli.data.manifest import is_prepared, load_manifest
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.fewshot.candidates import Candidate, Committee, rank_candidates
from guidino_cli.engine.fewshot.images import LabelledImage, SeenImage, see, see_file
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.errors import ConfigError, DataError, PartialError
from guidino_cli.files import file_sha256, write_text
from guidino_cli.models.composed import Model
from guidino_cli.options.fewshot import NextToLabelOptions
from guidino_cli.outputs import require_output_file
from guidino_cli.progress import join_first, log_info, pluralize, track
from guidino_cli.tables import to_csv
from guidino_cli.types import Case


def run(run_path: Path, pool: Path, options: NextToLabelOptions) -> None:
    """Write the images of a pool in the order in which to label them.

    Raises:
        ConfigError: The run was not made by `guidino fewshot`, has one label, or the list exists.
        DataError: The pool has no image that is not labelled already, or the run's labels are gone or changed.
        PartialError: Some images could not be read; the others are ranked.
    """
    require_output_file(options.out, overwrite=options.overwrite)
    device = pick_device(options.device)
    model, config, facts = load_run(run_path, offline=options.offline)
    if "fewshot" not in facts:
        raise ConfigError(f"{run_path}: was trained, and next-to-label ranks for runs made by `guidino fewshot`")
    if "volumes" in facts:
        raise ConfigError(
            f"{run_path}: was made from volumes, and next-to-label ranks images; label volumes of your choice"
        )
    model.to(device)
    cases = _labelled_cases(run_path, facts)
    images = _pool(pool, cases)
    if len(cases) < 2:
        raise ConfigError(
            f"{run_path}: was made from one label, and parts of one cannot disagree; label a second of your choice"
        )
    labelled = [_see_labelled(model, case, config, len(facts["classes"])) for case in cases]
    try:
        committee = Committee(model, labelled, alpha=facts["fewshot"]["alpha"])
    except ValueError as error:
        raise ConfigError(
            f"{run_path}: a class is in one label only, so no part of the labels knows all classes; label a second "
            "image with it"
        ) from error
    names, found, failed = _judge(model, committee, images, config)
    order = rank_candidates(found, [item.seen for item in labelled])
    _write(options.out, [(names[place], found[place]) for place in order])
    first = join_first([names[place].name for place in order])
    print(f"{pluralize(len(order), 'image')} ranked in {options.out}; label these next: {first}")
    if failed:
        raise PartialError(f"{pluralize(len(failed), 'image')} could not be read: {join_first(failed, '; ', limit=3)}")


def _labelled_cases(run_path: Path, facts: dict[str, Any]) -> list[Case]:
    """The run's labelled cases, whose files must be those that it was made from."""
    inside = run_path / DATA_FOLDER
    # A run made of folders may have been moved since.
    place = inside if is_prepared(inside) else Path(facts["data"]["cases"])
    manifest = load_manifest(place)
    by_id = {case.id: case for case in manifest.cases}
    cases = []
    for item in facts["fewshot"]["labelled"]:
        case = by_id.get(item["id"])
        if case is None or case.mask is None:
            raise DataError(f"{place}: has no label {item['id']} any more; make {run_path} again")
        for path, name in ((case.image, "image_sha256"), (case.mask, "mask_sha256")):
            if not path.is_file() or file_sha256(path) != item[name]:
                state = "has changed" if path.is_file() else "is missing"
                raise DataError(f"{path}: {state} since {run_path} was made; make the run again")
        cases.append(case)
    return cases


def _pool(pool: Path, cases: Sequence[Case]) -> list[Path]:
    """Images of the pool that are not labelled."""
    if is_prepared(pool):
        images = [case.image for case in load_manifest(pool).select("train")]
    elif pool.is_dir():
        images = find_images(pool)
    else:
        raise DataError(f"{pool}: {'is a file' if pool.exists() else 'no such folder'}; give a folder of images")
    if not images:
        raise DataError(f"{pool}: no images directly in this folder")
    kept, copies = leave_out_copies(images, cases)
    if copies:
        log_info(f"{pool}: {pluralize(copies, 'image')} left out, labelled already")
    if not kept:
        raise DataError(f"{pool}: every image is labelled already; give a folder with others")
    return kept


def _see_labelled(model: Model, case: Case, config: RunConfig, num_classes: int) -> LabelledImage:
    pixels, labels = read_pair(case, num_classes=num_classes)
    return LabelledImage(see(model, pixels, config.data), labels)


def _judge(
    model: Model, committee: Committee, images: Sequence[Path], config: RunConfig
) -> tuple[list[Path], list[Candidate], list[str]]:
    names, found, failed = [], [], []
    for path in track(images, total=len(images), description="pool"):
        try:
            item: SeenImage = see_file(model, path, config.data)
        except DataError as error:
            log_info(f"guidino: {error}")
            failed.append(str(error))
            continue
        names.append(path)
        found.append(committee.judge(item))
    if not names:
        raise DataError(f"none of {pluralize(len(failed), 'image')} could be read: {failed[0]}")
    return names, found, failed


def _write(out: Path, rows: Sequence[tuple[Path, Candidate]]) -> None:
    header = ["rank", "image", "agreement", "foreground"]
    lines = (
        [rank, str(path), f"{item.agreement:.4f}", f"{item.area:.4f}"]
        for rank, (path, item) in enumerate(rows, start=1)
    )
    write_text(out, to_csv(header, lines))
