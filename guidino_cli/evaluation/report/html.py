"""The HTML page of a report: tables, distributions, and the worst, median and best cases as overlays."""

import base64
import io
import json
from collections.abc import Iterator, Sequence
from html import escape

import numpy as np
from PIL import Image

from guidino_cli import __version__
from guidino_cli.data.images import read_image
from guidino_cli.data.volumes import is_volume
from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.masks import Mask, UnexpectedValueError
from guidino_cli.evaluation.report.text import (
    HEADINGS,
    SIZE_HEADINGS,
    TableBlock,
    caption,
    format_metric,
    label,
    size_rows,
    stratum_title,
    table_rows,
)
from guidino_cli.evaluation.scoring import read_aligned_prediction
from guidino_cli.evaluation.summary import EvaluationResult, case_metric, ranking_metric
from guidino_cli.evaluation.types import CaseResult
from guidino_cli.metrics import METRICS
from guidino_cli.plots.report import OVERLAY_LEGEND, SCRIPT, STYLE, downsample, draw_overlay, histogram_svg
from guidino_cli.progress import pluralize

_SHOWN = 3
_LONGEST = 420


def legend(result: EvaluationResult) -> str:
    """What the colours of the overlays mean."""
    several = len(result.config.targets) > 1
    chips = "".join(
        f'<span><i style="background:rgb{colour}"></i>{escape(name)}</span>'
        for name, colour in OVERLAY_LEGEND.items()
        if several or name != "wrong class"
    )
    return f'<p class="legend">{chips}</p>'


def pictures(result: EvaluationResult) -> Iterator[str]:
    """Three groups of figures; cases without a usable prediction are listed elsewhere and not drawn."""
    metric = ranking_metric(result)
    drawable = [case for case in result.cases if not case.is_problem]
    ranked = sorted(drawable, key=lambda case: _value(case, metric, result))
    middle = max(0, len(ranked) // 2 - 1)
    groups = {"worst": ranked[:_SHOWN], "median": ranked[middle : middle + _SHOWN], "best": ranked[::-1][:_SHOWN]}
    for name, cases in groups.items():
        figures = "".join(_figure(case, result) for case in cases)
        yield f'<h3>{name} by {METRICS[metric].label}</h3><div class="pictures">{figures}</div>'


def _value(case: CaseResult, metric: str, result: EvaluationResult) -> float:
    value = case_metric(case, metric, result)
    return -1.0 if np.isnan(value) else value if METRICS[metric].higher_is_better else -value


def _figure(case: CaseResult, result: EvaluationResult) -> str:
    words = ", ".join(
        f"{label(name, result.unit)} {format_metric(case_metric(case, name, result), name)}"
        for name in result.config.metrics[:3]
    )
    words = f"<b>{escape(case.pair.truth.case)}</b><br>{escape(words)}"
    words += f"<br>{escape(case.note)}" if case.note else ""
    try:
        picture = _overlay(case, result)
    except (DataError, UnexpectedValueError, MemoryError) as error:
        return f"<figure><figcaption>{words}<br>{escape(str(error))}</figcaption></figure>"
    text = escape(case.pair.truth.case, quote=True)
    return f'<figure><img src="{_data_uri(picture)}" alt="overlay of {text}"><figcaption>{words}</figcaption></figure>'


def _overlay(case: CaseResult, result: EvaluationResult) -> np.ndarray:
    truth = result.config.truth.read(case.pair.truth.path)
    prediction = read_aligned_prediction(case.pair, truth, result.config)[0]
    ours, theirs = _targets_only(prediction, result), _targets_only(truth, result)
    image = None
    if truth.labels.ndim == 3:
        # The slice across the last axis with the most to see.
        place = int(np.argmax(((ours > 0) | (theirs > 0)).sum(axis=(0, 1))))
        ours, theirs = np.rot90(ours[..., place]), np.rot90(theirs[..., place])
    elif case.pair.truth.image is not None and not is_volume(case.pair.truth.image):
        image = read_image(case.pair.truth.image)[0]
        image = image if image.shape[:2] == theirs.shape else None
    return downsample(draw_overlay(image, ours, theirs), _LONGEST)


def _targets_only(mask: Mask, result: EvaluationResult) -> np.ndarray:
    """Labels that belong to some target; with one target of merged classes, all of them as one."""
    labels = {label for target in result.config.targets for label in target.labels}
    kept = np.where(np.isin(mask.labels, sorted(labels)), mask.labels, 0)
    return np.minimum(kept, 1) if len(result.config.targets) == 1 else kept


def _data_uri(picture: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


_ROWS = 2000
"""Cases in the page's own table; per_case.csv always has all."""
_PROBLEMS = 20


def to_html(result: EvaluationResult, pairing: Pairing, verdicts: Sequence[GateResult] = ()) -> str:
    """The page; it loads nothing from anywhere."""
    body = [
        "<h1>Evaluation</h1>",
        _headline(result),
        "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in [*caption(result), *_about(result, pairing)]) + "</ul>",
        *_gates(verdicts),
        *_problems(result),
        "<h2>Summary</h2>",
        _summary(result),
        "<h2>Distributions</h2>",
        '<p class="small">Cases by value; solid line: mean, dashed: median.</p>',
        '<div class="grid">' + "".join(_distributions(result)) + "</div>",
        "<h2>Worst, median and best cases</h2>",
        legend(result),
        *pictures(result),
        "<h2>All cases</h2>",
        _cases(result),
        "<h2>Rules</h2>",
        f"<pre>{escape(json.dumps(result.config.policy.to_json(), indent=1))}</pre>",
        f'<p class="small">guidino {escape(__version__)}</p>',
    ]
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>guidino evaluation</title>'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n'
        f"<body>{chr(10).join(body)}<script>{SCRIPT}</script></body></html>\n"
    )


def _headline(result: EvaluationResult) -> str:
    boxes = []
    for name in result.config.metrics[:4]:
        summary = result.line(result.headline, name)
        ends = f"{format_metric(summary.ci_low, name)} to {format_metric(summary.ci_high, name)}"
        boxes.append(
            f"<div><b>{format_metric(summary.mean, name)}</b><span>{escape(label(name, result.unit))}</span>"
            f"<small>95 % CI {ends}<br>n {summary.used}/{summary.total}</small></div>"
        )
    of_what = f"Mean over {pluralize(len(result.cases), 'case')}: {result.headline}"
    return f'<p>{escape(of_what)}</p><div class="boxes">{"".join(boxes)}</div>'


def _about(result: EvaluationResult, pairing: Pairing) -> list[str]:
    return [
        f"truth: {result.config.truth.rule.sentence}",
        f"predictions: {result.config.predictions.rule.sentence}",
        f"names: {pairing.rule}; {_extra(pairing)}",
        *(f"warning: {text}" for text in pairing.warnings),
    ]


def _extra(pairing: Pairing) -> str:
    names = ", ".join(path.name for path in pairing.extra[:3]) + (", ..." if len(pairing.extra) > 3 else "")
    return f"{len(pairing.extra)} extra predictions, not scored: {names}" if pairing.extra else "no extra predictions"


def _gates(verdicts: Sequence[GateResult]) -> list[str]:
    if not verdicts:
        return []
    items = (f'<li class="{"pass" if item.passed else "fail"}">{escape(item.sentence)}</li>' for item in verdicts)
    return ["<h2>Gates</h2>", f"<ul>{''.join(items)}</ul>"]


def _problems(result: EvaluationResult) -> list[str]:
    """Cases without a usable prediction, and why."""
    found = result.problems()
    if not found:
        return []
    items = "".join(f"<li>{escape(case.pair.truth.case)}: {escape(case.note)}</li>" for case in found[:_PROBLEMS])
    more = f"<li>and {len(found) - _PROBLEMS} more, see per_case.csv</li>" if len(found) > _PROBLEMS else ""
    return [
        f"<h2>Without a usable prediction: {len(found)} of {pluralize(len(result.cases), 'case')}</h2>",
        f"<ul>{items}{more}</ul>",
    ]


def _summary(result: EvaluationResult) -> str:
    several = len(result.config.targets) > 1
    text = _table(HEADINGS, table_rows(result), several=several)
    if sizes := size_rows(result):
        text += f"<h2>Objects by size</h2>{_table(SIZE_HEADINGS, sizes, several=several)}"
    strata = "".join(
        f"<details><summary>{escape(stratum_title(name, lines))}</summary>"
        f"{_table(HEADINGS, table_rows(result, lines), several=several)}</details>"
        for name, lines in result.strata.items()
    )
    return text + (f"<h2>Strata</h2>{strata}" if strata else "")


def _table(headings: Sequence[str], blocks: Sequence[TableBlock], *, several: bool) -> str:
    rows = []
    for target, block in blocks:
        if several:
            rows.append(f'<tr class="target"><td colspan="{len(headings)}">{escape(target)}</td></tr>')
        rows += ["<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in block]
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _distributions(result: EvaluationResult) -> Iterator[str]:
    for target in (item.name for item in result.config.targets):
        for name in result.config.metrics:
            summary = result.line(target, name)
            values = [score.values[name] for case in result.cases for score in case.scores if score.target == target]
            title = label(name, result.unit) + (f", {target}" if len(result.config.targets) > 1 else "")
            yield histogram_svg(
                values,
                title=title,
                is_share=METRICS[name].kind == "share",
                mean=summary.mean,
                median=summary.median,
            )


def _cases(result: EvaluationResult) -> str:
    names = list(result.config.metrics)
    headings = ["case", "target", "status", *(label(name, result.unit) for name in names), "note"]
    rows = []
    for case in result.cases[:_ROWS]:
        for score in case.scores:
            figures = [format_metric(score.values[name], name) for name in names]
            cells = [case.pair.truth.case, score.target, score.status.replace("_", " "), *figures, case.note]
            rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f'<th><button type="button">{escape(heading)}</button></th>' for heading in headings)
    rest = len(result.cases) - _ROWS
    more = f"<p>{rest} more cases are in per_case.csv.</p>" if rest > 0 else ""
    table = f'<table id="cases"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<div class="scroll">{table}</div>{more}'
