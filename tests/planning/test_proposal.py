"""Proposed settings, computed by hand."""

import pytest

from guidino_cli.planning.fingerprint import ClassStatistics, DatasetFingerprint
from guidino_cli.planning.proposal import PlanProposal, explain_proposal, propose_plan


def _facts(cases: int) -> DatasetFingerprint:
    size, grey = (512, 512), (90.0, 90.0, 90.0)
    classes = (ClassStatistics("polyp", cases, 0.1, 0.01),)
    return DatasetFingerprint(cases, size, size, size, grey, grey, (grey, grey), True, classes)


def _proposed(cases: int, steps: int | None = None) -> PlanProposal:
    return propose_plan(_facts(cases), encoder="plain", budget_gb=8, steps=steps)


@pytest.mark.parametrize(
    ("cases", "steps", "epochs"),
    # Batches of 2, 5 and 12: 5 steps a pass, 20, and 83.
    [(11, 62_500, 12_500), (100, 250_000, 12_500), (1000, 250_000, 3012)],
)
def test_nnunets_steps_are_taken_up_to_12500_passes(cases: int, steps: int, epochs: int) -> None:
    proposal = _proposed(cases)
    assert (proposal.steps, proposal.epochs) == (steps, epochs)


def test_given_steps_are_taken_for_any_number_of_passes() -> None:
    assert _proposed(11, steps=250_000).epochs == 50_000


@pytest.mark.parametrize(("cases", "is_said"), [(11, True), (100, False)])
def test_fewer_steps_than_nnunets_are_explained(cases: int, is_said: bool) -> None:
    lines = explain_proposal(_proposed(cases), _facts(cases), name="few")
    assert any("--steps 250000" in line for line in lines) == is_said
