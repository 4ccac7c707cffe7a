"""`guidino bench`: compute the cells of a recipe that are missing, one by one, and write the table of all."""

import gc
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from guidino_cli.commands.bench.cells import (
    CELLS_FOLDER,
    RECORD_FILE,
    BenchCell,
    CellRecord,
    describe_differences,
    list_cells,
    order_cells,
)
from guidino_cli.commands.bench.inputs import describe_changed
from guidino_cli.commands.bench.recipe import Recipe, read_recipe
from guidino_cli.commands.bench.report import JSON_FILE, print_bench, print_plan, write_bench
from guidino_cli.commands.bench.table import TaskTable, build_tables
from guidino_cli.commands.bench.task_checks import check_tasks
from guidino_cli.commands.bench.task_options import PROBE_KINDS
from guidino_cli.errors import (
    ConfigError,
    DataError,
    PartialError,
    StoppedError,
    as_user_error,
    first_line,
    to_one_line,
    unknown_name,
)
from guidino_cli.files import write_text
from guidino_cli.options.bench import BenchOptions
from guidino_cli.options.parsing import split_names
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import format_duration, join_first, log_info, pluralize

RECIPE_FILE, LOG_FILE = "recipe.yaml", "log.txt"
_ANEW = "choose another -o, or add --overwrite to begin anew"


def run(given: str, options: BenchOptions) -> None:
    """Compute what is missing and write the table.

    Raises:
        ConfigError: A recipe or option that cannot be, or a folder of another recipe.
        DataError: No cell could be computed.
        PartialError: The table is written, but some cells failed.
        StoppedError: Interrupted; the same call goes on.
    """
    if options.dry_run and options.as_json:
        raise ConfigError("--json: a dry run writes no bench.json; leave out --json or --dry-run")
    recipe = read_recipe(given, data_root=options.data_root)
    check_tasks(recipe)
    cells = list_cells(recipe, options.out)
    chosen = _choose(recipe, cells, options.only)
    if not options.overwrite:
        _require_same(options.out, cells)
    if options.dry_run:
        print_plan(chosen)
        return
    _prepare(options.out, recipe, overwrite=options.overwrite)
    # Imported when something is computed: torch takes seconds.
    from guidino_cli.engine.run_folders import lock_run_folder

    with lock_run_folder(options.out):
        tables = _write(recipe, cells, options.out)
        write_text(options.out / RECIPE_FILE, recipe.path.read_text(encoding="utf-8-sig"))
        for number, cell in enumerate(order_cells(chosen), start=1):
            if _compute(cell, options, place=f"[{number}/{len(chosen)}]"):
                # After each cell: a killed process leaves the table of what there is.
                tables = _write(recipe, cells, options.out)
    if options.as_json:
        print((options.out / JSON_FILE).read_text(encoding="utf-8"), end="")
    else:
        print_bench(tables, options.out)
    _finish(chosen)


def _choose(recipe: Recipe, cells: Sequence[BenchCell], only: str | None) -> list[BenchCell]:
    if only is None:
        return list(cells)
    names = split_names(only)
    known = [task.name for task in recipe.tasks]
    for name in names or [only]:
        if name not in known:
            raise ConfigError(f"--only: {unknown_name('task', name, known)}")
    return [cell for cell in cells if cell.task.name in names]


def _require_same(out: Path, cells: Sequence[BenchCell]) -> None:
    """Refuse a folder whose cells were made with other settings, or are those of another recipe."""
    known: dict[Path, str] = {}
    for cell in cells:
        record = cell.read()
        if record is None:
            continue
        # Of a cell that is not done, features, pairs and runs may be there and are resumed.
        if different := describe_differences(record.settings, cell.settings):
            raise ConfigError(
                f"-o {out}: holds {cell.task.name}, {cell.name} with {join_first(different, limit=3)}; {_ANEW}"
            )
        if changed := describe_changed(cell, out, known):
            raise ConfigError(
                f"{cell.task.data}: {changed} since {cell.task.name}, {cell.name} of {out} was computed; {_ANEW}"
            )
    found = sorted({path.parent.parent.name for path in (out / CELLS_FOLDER).glob(f"*/*/{RECORD_FILE}")})
    own = {cell.task.name for cell in cells}
    if found and not own & set(found):
        raise ConfigError(f"-o {out}: holds the tasks of another recipe ({join_first(found)}); {_ANEW}")


def _prepare(out: Path, recipe: Recipe, *, overwrite: bool) -> None:
    # A recipe.yaml may be the user's own, in a folder of other work.
    is_ours = not out.exists() or (out / JSON_FILE).is_file() or (out.is_dir() and not any(out.iterdir()))
    weights = [Path(backbone.weights) for backbone in recipe.backbones.values() if backbone.weights is not None]
    inputs = [recipe.path, *(path for path in (*weights, *(task.data for task in recipe.tasks)) if path.exists())]
    require_output_folder(out, inputs, overwrite=True, recognised=is_ours)
    if overwrite and out.exists():
        shutil.rmtree(out)


def _write(recipe: Recipe, cells: Sequence[BenchCell], out: Path) -> list[TaskTable]:
    tables = build_tables(recipe, cells)
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    write_bench(out, recipe, tables, command=sys.argv[1:], created=created)
    return tables


def _compute(cell: BenchCell, options: BenchOptions, *, place: str) -> bool:
    """Compute a cell unless it is done; whether there was anything to do."""
    before = cell.read()
    if before is not None and before.state == "done":
        return False
    what = f"{place} {cell.task.name}: {cell.name}"
    log_info(what)
    record = _compute_one(cell, options)
    cell.write(record)
    log_info(f"{what}: {record.error if record.error else f'done in {format_duration(record.seconds)}'}")
    _free_memory()
    return True


def _compute_one(cell: BenchCell, options: BenchOptions) -> CellRecord:
    """A done record, or a failed one: whatever goes wrong in a cell is its own."""
    cell.write(CellRecord("running", cell.settings))
    began = time.perf_counter()
    try:
        # What the commands print is about their own reports; progress and warnings go to stderr as ever.
        with (cell.folder / LOG_FILE).open("w", encoding="utf-8") as log, redirect_stdout(log):
            record = _run_kind(cell, options)
    except (KeyboardInterrupt, StoppedError) as error:
        code = error.exit_code if isinstance(error, StoppedError) else 130
        raise StoppedError(f"stopped; the same command goes on where {options.out} ends", exit_code=code) from error
    except Exception as error:
        if os.environ.get("GUIDINO_DEBUG"):
            raise
        known = as_user_error(error)
        bug = f"{type(error).__name__}: {first_line(error)} (a bug; GUIDINO_DEBUG=1 shows the traceback)"
        return CellRecord("failed", cell.settings, error=to_one_line(bug if known is None else str(known)))
    return replace(record, seconds=round(time.perf_counter() - began, 1))


def _run_kind(cell: BenchCell, options: BenchOptions) -> CellRecord:
    if cell.task.kind in PROBE_KINDS:
        from guidino_cli.commands.bench.probe_cells import run_probe

        return run_probe(cell, options)
    if cell.task.kind == "decoder":
        from guidino_cli.commands.bench.decoder_cells import run_decoder

        return run_decoder(cell, options)
    from guidino_cli.commands.bench.registration_cells import run_registration

    return run_registration(cell, options)


def _free_memory() -> None:
    """Give back what a cell has left, so that the next one does not run out of it."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _finish(cells: Sequence[BenchCell]) -> None:
    records = [(cell, cell.read()) for cell in cells]
    failed = [(cell, record) for cell, record in records if record is not None and record.state == "failed"]
    if not failed:
        return
    first = f"{failed[0][0].task.name}, {failed[0][0].name}: {failed[0][1].error}"
    if len(failed) == len(cells):
        raise DataError(f"none of {pluralize(len(cells), 'cell')} could be computed; the first: {first}")
    raise PartialError(f"{pluralize(len(failed), 'cell')} of {len(cells)} failed and has no score; the first: {first}")
