"""What a set of runs came to, as a table on the terminal; and why a run failed, in words."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.sets.plan import FILE_NAME, Plan
from guidino_cli.commands.sets.record import TABLE, Row, scores
from guidino_cli.errors import EXIT_CODES

_MEANING = {
    "seed": "Scores are of the selected epoch, on the validation cases that selected it.",
    "fold": "Scores are of the selected epoch, on the fold that selected it: they flatter.",
}


def show(plan: Plan, out: Path, rows: Sequence[Row]) -> None:
    """Print a row a run, mean and spread, and where they are kept."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("run", "val Dice", "epoch", "of", "minutes"):
        table.add_column(title, justify="left" if title == "run" else "right")
    for row in rows:
        table.add_row(*_cells(row))
    Console(highlight=False).print(table)
    _print_spread(plan, rows)
    print(f"wrote {out / TABLE} and {out / FILE_NAME}")


def _cells(row: Row) -> tuple[str, ...]:
    result = row.result
    if result is None:
        return row.run, "failed", "-", "-", "-"
    return row.run, f"{result.val_dice:.4f}", str(result.epoch), str(result.epochs), f"{result.seconds / 60:.1f}"


def _print_spread(plan: Plan, rows: Sequence[Row]) -> None:
    found = scores(rows)
    if found["mean"] is None:
        return
    spread = "" if found["sd"] is None else f" +- {found['sd']:.4f} (sample standard deviation)"
    count = f"{found['runs']} of {found['of']} runs" if found["runs"] != found["of"] else f"{found['of']} runs"
    print(f"mean val Dice {found['mean']:.4f}{spread} of {count}")
    print(f"from {found['min']:.4f} to {found['max']:.4f}")
    print(_MEANING[plan.over])


def reason(code: int | None) -> str:
    """Why a run failed, from its exit code; None where it left no result."""
    if code is not None and code < 0:
        return f"killed by signal {-code}" + (", as the system does when memory runs out" if code == -9 else "")
    return f"exit code {code}: {EXIT_CODES.get(code or 0, 'unknown')}" if code else "left no result"
