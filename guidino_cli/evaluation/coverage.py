"""Unmatched predictions and truths: warnings for reports, the filter of --only-predicted, the gates of --strict."""

from collections.abc import Sequence
from dataclasses import replace

from guidino_cli.errors import DataError
from guidino_cli.evaluation.cases import Pairing
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.summary import EvaluationResult
from guidino_cli.progress import join_first, pluralize

_NAMED = 3
"""Files named in a sentence."""


def settle_coverage(pairings: Sequence[Pairing], *, only_predicted: bool) -> list[Pairing]:
    """Pairings with a sentence for what their means do not cover.

    Args:
        pairings: Sets of predictions with the same cases in the same order, one or more.
        only_predicted: Leave out the cases of which some set has no prediction; all sets keep the same cases.

    Raises:
        DataError: No case has a prediction in every set.
    """
    described = [replace(pairing, coverage=_describe_extra(pairing)) for pairing in pairings]
    return _keep_predicted(described) if only_predicted else described


def check_coverage(result: EvaluationResult, pairing: Pairing) -> list[GateResult]:
    """Gates of --strict: every prediction has a truth, every case a usable prediction, and no name looks wrong."""
    problems = [case.pair.truth.case for case in result.problems()]
    counts = {
        "predictions without a truth": [path.name for path in pairing.extra],
        "cases without a usable prediction": problems,
        "warnings about the names": pairing.warnings,
    }
    return [
        GateResult(f"{name} = 0", len(found), not found, join_first(found, limit=_NAMED) or "none", is_count=True)
        for name, found in counts.items()
    ]


def _describe_extra(pairing: Pairing) -> list[str]:
    if not pairing.extra:
        return []
    matched = sum(pair.prediction is not None for pair in pairing.pairs)
    total = pluralize(len(pairing.extra) + len(pairing.other_splits) + matched, "prediction")
    names = join_first([path.name for path in pairing.extra], limit=_NAMED)
    return [
        f"{len(pairing.extra)} of {total} have no truth and are not scored ({names}); the means say nothing about "
        "them; --strict makes this an error"
    ]


def _keep_predicted(pairings: Sequence[Pairing]) -> list[Pairing]:
    lacking = {pair.truth.case for pairing in pairings for pair in pairing.pairs if pair.prediction is None}
    cases = [pair.truth.case for pair in pairings[0].pairs]
    left_out = [case for case in cases if case in lacking]
    sets = "" if len(pairings) == 1 else " in every set"
    if len(left_out) == len(cases):
        raise DataError(f"--only-predicted: no case has a prediction{sets}")
    line = (
        f"{len(left_out)} of {pluralize(len(cases), 'case')} have no prediction{sets} and are left out by "
        f"--only-predicted ({join_first(left_out, limit=_NAMED)}); the means are of the other "
        f"{len(cases) - len(left_out)}"
    )
    return [
        replace(
            pairing,
            pairs=[pair for pair in pairing.pairs if pair.truth.case not in lacking],
            left_out=left_out,
            coverage=[*pairing.coverage, *([line] if left_out else [])],
        )
        for pairing in pairings
    ]
