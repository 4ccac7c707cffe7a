"""Whether the files of which done cells were computed have changed since; by what their commands have recorded."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from guidino_cli.commands import features as features_command
from guidino_cli.commands.bench.cells import PAIRS_FOLDER, BenchCell
from guidino_cli.commands.bench.probe_cells import features_of
from guidino_cli.commands.bench.task_options import PROBE_KINDS
from guidino_cli.data.feature_folder import ABOUT_FILE, read_feature_folder
from guidino_cli.data.file_records import find_changed_files
from guidino_cli.data.manifest import load_manifest
from guidino_cli.json_files import read_json_object
from guidino_cli.progress import join_first, pluralize


def describe_changed(cell: BenchCell, out: Path, known: dict[Path, str]) -> str:
    """What has changed since a done cell was computed, such as "2 files have changed (a.png, b.png)"; else "".

    Of files that are gone, and of features or pairs that were removed, nothing is known. Cells that are not done are
    left to their commands, which compare the files themselves.

    Args:
        cell: The cell.
        out: Folder of the benchmark.
        known: What was found out for other cells, by the folder that recorded the files, which is not compared again.
    """
    record = cell.read()
    if record is None or record.state != "done" or not cell.task.data.exists():
        return ""
    if cell.task.kind in PROBE_KINDS:
        place = features_of(cell, out).out
        compare = partial(_of_features, cell, out)
    elif cell.task.kind == "decoder":
        place, compare = cell.task.data, partial(_of_masks, cell.task.data)
    else:
        place, compare = cell.folder, partial(_of_pairs, cell)
    if place not in known:
        known[place] = compare()
    return known[place]


def _of_masks(data: Path) -> str:
    return _name_files(find_changed_files(load_manifest(data).cases, data))


def _of_features(cell: BenchCell, out: Path) -> str:
    from guidino_cli.engine.features.files import find_changed_since, items_sha256

    wanted = features_of(cell, out)
    if not (wanted.out / ABOUT_FILE).is_file():
        return ""
    folder = read_feature_folder(wanted.out)
    data = features_command.read_data(cell.task.data, wanted)
    if items_sha256(data) != folder.about["items_sha256"]:
        return "has other items, or another split"
    return _name_files(find_changed_since(folder, data, root=features_command.root_of(cell.task.data)))


def _of_pairs(cell: BenchCell) -> str:
    # Imported when a registration is done: torch takes seconds.
    from guidino_cli.commands.bench.task_checks import registration_options
    from guidino_cli.commands.register_outputs import RESULT_FILE, is_current
    from guidino_cli.commands.register_pairs import collect_pairs

    place = cell.folder / PAIRS_FOLDER
    report = place / "report.json"
    if not report.is_file():
        return ""
    hint = "remove it, and the cell is computed again"
    settings = read_json_object(report, hint=hint)["settings"]
    changed = [
        files.name
        for files in collect_pairs(cell.task.data, None, registration_options(cell.task, place))
        if (place / files.name / RESULT_FILE).is_file()
        and all(path.exists() for path in files.paths)
        and not is_current(read_json_object(place / files.name / RESULT_FILE, hint=hint), files, settings)
    ]
    return (
        f"files of {pluralize(len(changed), 'pair')} have changed ({join_first(changed, limit=3)})" if changed else ""
    )


def _name_files(changed: Sequence[Path]) -> str:
    if not changed:
        return ""
    verb = "has" if len(changed) == 1 else "have"
    return f"{pluralize(len(changed), 'file')} {verb} changed ({join_first([str(path) for path in changed], limit=3)})"
