"""The result as Markdown, for a pull request or a lab book."""

from collections.abc import Sequence

from guidino_cli.evaluation.gates import Verdict
from guidino_cli.evaluation.result import Evaluation, pooled_figures
from guidino_cli.evaluation.tables import (
    HEADINGS,
    SIZE_HEADINGS,
    caption,
    digits,
    size_rows,
    stratum_title,
    table_rows,
    worst_cases,
)


def to_markdown(result: Evaluation, verdicts: Sequence[Verdict] = ()) -> str:
    """Summary table, pooled figures, gates, worst cases and the rules behind them."""
    parts = ["# Evaluation", "", *(f"- {_safe(line)}" for line in caption(result)), ""]
    for target, rows in table_rows(result):
        parts += [f"## {_safe(target)}", "", *_table(HEADINGS, rows), ""]
    parts += ["## Pooled over all pixels", "", *_table(("target", "IoU", "Dice"), _pooled(result)), ""]
    for target, rows in size_rows(result):
        parts += [f"## Objects of {_safe(target)} by size", "", *_table(SIZE_HEADINGS, rows), ""]
    for stratum, lines in result.strata.items():
        parts += [f"## {_safe(stratum_title(stratum, lines))}", ""]
        for target, block in table_rows(result, lines):
            parts += [f"**{_safe(target)}**", "", *_table(HEADINGS, block), ""]
    if verdicts:
        parts += ["## Gates", "", *(f"- {_safe(verdict.sentence)}" for verdict in verdicts), ""]
    worst = worst_cases(result, 10)
    if worst:
        parts += ["## Worst cases", "", *(f"- {_safe(line)}" for line in worst), ""]
    return "\n".join(parts)


def _pooled(result: Evaluation) -> list[tuple[str, ...]]:
    figures = {name: pooled_figures(counts) for name, counts in result.pooled.items()}
    return [(name, digits(item["iou"], "iou"), digits(item["dice"], "dice")) for name, item in figures.items()]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *rows]
    return ["| " + " | ".join(_safe(cell) for cell in line) + " |" for line in lines]


def _safe(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
