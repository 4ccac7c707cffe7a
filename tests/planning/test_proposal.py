"""Proposed settings, computed by hand."""

import pytest
import yaml

from guidino_cli.errors import DataError
from guidino_cli.planning.fingerprint import ClassStatistics, DatasetFingerprint
from guidino_cli.planning.proposal import PlanProposal, explain_proposal, format_preset, propose_plan


def _facts(cases: int, size: tuple[int, int] = (512, 512)) -> DatasetFingerprint:
    grey = (90.0, 90.0, 90.0)
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


def test_a_square_window_has_nearly_the_area_of_nnunets_patch() -> None:
    """1024 x 1536 is pooled eight times; sqrt(1024 * 1536) / 256 = 4.90 makes 5 of 256."""
    proposal = propose_plan(_facts(100, (3000, 4000)), encoder="plain", budget_gb=8)
    assert proposal.nnunet.patch_hw == (1024, 1536)
    assert proposal.ours.patch_hw == (1280, 1280)
    lines = explain_proposal(proposal, _facts(100, (3000, 4000)), name="many")
    assert lines[2] == "Patch: nnU-Net would take 1536x1024 px and a batch of 2."
    assert lines[3] == "Windows are square here: 1280x1280 px, nearly the same area."


def test_a_square_patch_needs_no_explanation() -> None:
    assert not any("square" in line for line in explain_proposal(_proposed(100), _facts(100), name="few"))


@pytest.mark.parametrize(
    ("cases", "line"),
    [(1000, "Batch 12: what fits."), (100, "Batch 5, though 12 would fit: a step shows 5 % of the pixels at most.")],
)
def test_a_batch_is_explained_by_memory_or_by_the_data(cases: int, line: str) -> None:
    assert line in explain_proposal(_proposed(cases), _facts(cases), name="any")


def test_every_number_is_explained() -> None:
    lines = explain_proposal(_proposed(11), _facts(11), name="few")
    assert lines[0].startswith("For few, 11 training cases of 512x512 px (width x height, median)")
    assert lines[1] == "Network of up to 8 GB: 8 stages, plain encoder."
    assert lines[4] == (
        "62,500 steps with momentum 0.99 and (1 - t)^0.9: 12,500 passes over the cases. nnU-Net's 250,000 would be "
        "50,000; to take them: --steps 250000."
    )


@pytest.mark.parametrize(("steps", "every"), [(1000, 1), (5000, 1), (5005, 2), (250_000, 50)])
def test_there_are_at_most_a_thousand_validations(steps: int, every: int) -> None:
    """Five steps an epoch."""
    assert _proposed(11, steps=steps).validate_every == every


def test_fewer_steps_than_an_epoch_has_are_one_epoch() -> None:
    assert _proposed(11, steps=1).epochs == 1
    assert _proposed(1).epochs == 12_500


@pytest.mark.parametrize(("encoder", "blocks"), [("plain", [2] * 8), ("residual", [1, 3, 4, 6, 6, 6, 6, 6])])
def test_a_preset_holds_the_plan(encoder: str, blocks: list[int]) -> None:
    proposal = propose_plan(_facts(1000), encoder=encoder, budget_gb=8)
    text = format_preset(proposal, _facts(1000), name="many")
    settings = yaml.safe_load(text)
    options = settings["model"]["segmenter"]["options"]
    assert options == {"encoder": encoder, "widths": [32, 64, 128, 256, 512, 512, 512, 512], "blocks": blocks}
    assert settings["data"]["image_size"] == 512
    assert settings["train"]["batch_size"] == proposal.ours.batch_size
    assert settings["train"]["epochs"] == proposal.epochs
    assert text.startswith("# For many, 1,000 training cases")


@pytest.mark.parametrize(("encoder", "cases", "fitting"), [("residual", 5, 13), ("plain", 1, 2)])
def test_a_batch_has_no_more_windows_than_there_are_cases(encoder: str, cases: int, fitting: int) -> None:
    """`train` refuses a batch that the cases do not fill: an epoch has one window of each."""
    facts = _facts(cases, size=(3000, 4000) if encoder == "residual" else (512, 512))
    proposal = propose_plan(facts, encoder=encoder, budget_gb=8)
    assert (proposal.nnunet.batch_size, proposal.ours.batch_size) == (fitting, cases)
    text = "\n".join(explain_proposal(proposal, facts, name="few"))
    assert f"Batch {cases}, though {fitting} would fit: an epoch has one window of each of {cases} case" in text


def test_a_batch_that_shows_every_pixel_once_is_said_to() -> None:
    # 64 x 64 px: hundreds of patches fit, and ten images have the pixels of ten.
    facts = _facts(20, size=(64, 128))
    text = "\n".join(explain_proposal(propose_plan(facts, encoder="residual", budget_gb=8), facts, name="small"))
    assert "a step shows 100 % of the pixels at most" in text


@pytest.mark.parametrize("size", [(12, 12), (8, 12)])
def test_images_too_small_for_three_stages_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=rf"has {size[1]}x{size[0]} px, too few .* needs 16 a side"):
        propose_plan(_facts(10, size=size), encoder="plain", budget_gb=8)
