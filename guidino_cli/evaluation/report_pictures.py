"""The worst, median and best cases of a report as overlays inside an HTML page."""

import base64
import io
from collections.abc import Iterator
from html import escape

import numpy as np
from PIL import Image

from guidino_cli.data.images import read_image
from guidino_cli.data.volumes import is_volume
from guidino_cli.errors import DataError
from guidino_cli.evaluation.reading import Mask, SurpriseError
from guidino_cli.evaluation.result import Evaluation, case_value, ranking_metric
from guidino_cli.evaluation.scores import CaseResult
from guidino_cli.evaluation.scoring import fit_prediction
from guidino_cli.evaluation.tables import digits, label
from guidino_cli.metrics import METRICS
from guidino_cli.plots.report import LEGEND, overlay, shrink

_SHOWN = 3
_LONGEST = 420


def legend(result: Evaluation) -> str:
    """What the colours of the overlays mean."""
    several = len(result.job.targets) > 1
    chips = "".join(
        f'<span><i style="background:rgb{colour}"></i>{escape(name)}</span>'
        for name, colour in LEGEND.items()
        if several or name != "wrong class"
    )
    return f'<p class="legend">{chips}</p>'


def pictures(result: Evaluation) -> Iterator[str]:
    """Three groups of figures; cases without a usable prediction are listed elsewhere and not drawn."""
    metric = ranking_metric(result)
    drawable = [case for case in result.cases if not case.is_problem]
    ranked = sorted(drawable, key=lambda case: _value(case, metric, result))
    middle = max(0, len(ranked) // 2 - 1)
    groups = {"worst": ranked[:_SHOWN], "median": ranked[middle : middle + _SHOWN], "best": ranked[::-1][:_SHOWN]}
    for name, cases in groups.items():
        figures = "".join(_figure(case, result) for case in cases)
        yield f'<h3>{name} by {METRICS[metric].label}</h3><div class="pictures">{figures}</div>'


def _value(case: CaseResult, metric: str, result: Evaluation) -> float:
    value = case_value(case, metric, result)
    return -1.0 if np.isnan(value) else value if METRICS[metric].higher_is_better else -value


def _figure(case: CaseResult, result: Evaluation) -> str:
    words = ", ".join(
        f"{label(name, result.unit)} {digits(case_value(case, name, result), name)}" for name in result.job.metrics[:3]
    )
    words = f"<b>{escape(case.pair.truth.case)}</b><br>{escape(words)}"
    words += f"<br>{escape(case.note)}" if case.note else ""
    try:
        picture = _overlay(case, result)
    except (DataError, SurpriseError, MemoryError) as error:
        return f"<figure><figcaption>{words}<br>{escape(str(error))}</figcaption></figure>"
    text = escape(case.pair.truth.case, quote=True)
    return f'<figure><img src="{_data_uri(picture)}" alt="overlay of {text}"><figcaption>{words}</figcaption></figure>'


def _overlay(case: CaseResult, result: Evaluation) -> np.ndarray:
    truth = result.job.truth.read(case.pair.truth.path)
    prediction = fit_prediction(case.pair, truth, result.job)[0]
    ours, theirs = _targets_only(prediction, result), _targets_only(truth, result)
    image = None
    if truth.labels.ndim == 3:
        # The slice across the last axis with the most to see.
        place = int(np.argmax(((ours > 0) | (theirs > 0)).sum(axis=(0, 1))))
        ours, theirs = np.rot90(ours[..., place]), np.rot90(theirs[..., place])
    elif case.pair.truth.image is not None and not is_volume(case.pair.truth.image):
        image = read_image(case.pair.truth.image)[0]
        image = image if image.shape[:2] == theirs.shape else None
    return shrink(overlay(image, ours, theirs), _LONGEST)


def _targets_only(mask: Mask, result: Evaluation) -> np.ndarray:
    """Labels that belong to some target; with one target of merged classes, all of them as one."""
    labels = {label for target in result.job.targets for label in target.labels}
    kept = np.where(np.isin(mask.labels, sorted(labels)), mask.labels, 0)
    return np.minimum(kept, 1) if len(result.job.targets) == 1 else kept


def _data_uri(picture: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, format="PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")
