"""Propose training settings by nnU-Net's rules, and format them as a commented preset."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

from guidino_cli.errors import DataError
from guidino_cli.planning.fingerprint import DatasetFingerprint
from guidino_cli.planning.rules import ENCODERS, NetworkPlan, plan_for_patch, plan_network
from guidino_cli.progress import pluralize
from guidino_cli.types import width_by_height

_NNUNET_STEPS = 1000 * 250
# If a batch covers at most 5 % of the pixels, nnU-Net's 250,000 steps are at most this many passes over the images.
# Only its smallest batch, 2, exceeds them: tens of thousands of passes over a dozen images.
_MAX_PASSES = 12_500
_MAX_VALIDATIONS = 1000
# Three stages, the fewest that have a head: 16 px, 8 and 4.
_MIN_SIDE = 16


@dataclass(frozen=True)
class PlanProposal:
    """Proposed settings for a data set.

    Attributes:
        encoder: "plain" or "residual".
        budget_gb: GPU memory that the network may fill, in GB.
        nnunet: nnU-Net's own plan, whose patch need not be square.
        ours: Plan with the square window that guidino trains on.
        steps: Total optimizer steps: the given number, or nnU-Net's up to 12,500 passes.
        epochs: Passes over the training cases that make up these steps.
        validate_every: Epochs between validations.
    """

    encoder: str
    budget_gb: float
    nnunet: NetworkPlan
    ours: NetworkPlan
    steps: int
    epochs: int
    validate_every: int


def propose_plan(
    fingerprint: DatasetFingerprint, *, encoder: str, budget_gb: float, steps: int | None = None
) -> PlanProposal:
    """Apply the rules to a fingerprint.

    Args:
        fingerprint: Fingerprint of the training cases.
        encoder: "plain" or "residual".
        budget_gb: GPU memory that the network may fill, in GB.
        steps: Optimizer steps; None for nnU-Net's 1000 times 250, but at most 12,500 passes.

    Raises:
        DataError: The images are too small for nnU-Net's network.
    """
    kind = ENCODERS[encoder]
    classes = 1 + len(fingerprint.classes)
    theirs = plan_network(
        fingerprint.median_hw, cases=fingerprint.cases, classes=classes, encoder=kind, budget_gb=budget_gb
    )
    side = _square(theirs)
    if side < _MIN_SIDE:
        raise DataError(
            f"the median training image has {width_by_height(fingerprint.median_hw)} px, too few for nnU-Net's network,"
            f" which needs {_MIN_SIDE} a side; enlarge images and masks, or train a preset, which resizes them"
        )
    ours = plan_for_patch(
        (side, side), fingerprint.median_hw, cases=fingerprint.cases, classes=classes, encoder=kind, budget_gb=budget_gb
    )
    if ours.batch_size > fingerprint.cases:
        # An epoch here has one window of each case; nnU-Net draws patches without end.
        ours = replace(ours, batch_size=fingerprint.cases, capped_batch=ours.batch_size)
    steps_per_epoch = max(1, fingerprint.cases // ours.batch_size)
    if steps is None:
        steps = min(_NNUNET_STEPS, _MAX_PASSES * steps_per_epoch)
    epochs = max(1, round(steps / steps_per_epoch))
    return PlanProposal(encoder, budget_gb, theirs, ours, steps, epochs, max(1, ceil(epochs / _MAX_VALIDATIONS)))


def _square(plan: NetworkPlan) -> int:
    """Side of the square of nearly the same area that allows as many poolings."""
    multiple = 2 ** (len(plan.widths) - 1)
    return max(1, round(prod(plan.patch_hw) ** 0.5 / multiple)) * multiple


NNUNET_OPTIMISATION = (
    "  optimizer: sgd",
    "  lr: 1e-2",
    "  weight_decay: 3e-5",
    "  schedule: poly",
    "  clip_norm: 12",
    "  loss: {dice: 1, cross_entropy: 1}",
    "predict: {overlap: 0.5, mirror: true}",
)
"""The end of a preset by nnU-Net's rules: the rest of its section `train`, and prediction."""


def format_preset(proposal: PlanProposal, fingerprint: DatasetFingerprint, *, name: str) -> str:
    """Format a preset as YAML with comments."""
    ours = proposal.ours
    blocks = ENCODERS[proposal.encoder].blocks[: len(ours.widths)]
    return "\n".join(
        [
            *(f"# {line}" for line in explain_proposal(proposal, fingerprint, name=name)),
            f"description: nnU-Net's plan in two dimensions for {name}",
            "model:",
            "  segmenter:",
            "    name: nnunet",
            f"    options: {{encoder: {proposal.encoder}, widths: {_yaml_flow(ours.widths)}, "
            f"blocks: {_yaml_flow(blocks)}}}",
            f"data: {{image_size: {ours.patch_hw[0]}, resize: none, augment: nnunet, foreground_crops: 0.33}}",
            "train:",
            f"  epochs: {proposal.epochs}",
            f"  batch_size: {ours.batch_size}",
            f"  validate_every: {proposal.validate_every}",
            *NNUNET_OPTIMISATION,
            "",
        ]
    )


def explain_proposal(proposal: PlanProposal, fingerprint: DatasetFingerprint, *, name: str) -> list[str]:
    """Explain the origin of every number, one line each."""
    theirs, ours = proposal.nnunet, proposal.ours
    batch = f"Batch {ours.batch_size}: what fits"
    if ours.capped_batch is not None:
        batch = f"Batch {ours.batch_size}, though {ours.capped_batch} would fit: {_batch_limit(proposal, fingerprint)}"
    cases, median = pluralize(fingerprint.cases, "training case"), width_by_height(fingerprint.median_hw)
    lines = [
        f"For {name}, {cases} of {median} px (width x height, median), by nnU-Net's rules.",
        f"Network of up to {proposal.budget_gb:g} GB: {len(ours.widths)} stages, {proposal.encoder} encoder.",
        f"Patch: nnU-Net would take {width_by_height(theirs.patch_hw)} px and a batch of {theirs.batch_size}.",
        f"{batch}.",
        _explain_steps(proposal),
        "Normalisation: ImageNet's, as everywhere here; nnU-Net would take each image's own mean and deviation.",
    ]
    if theirs.patch_hw != ours.patch_hw:
        lines.insert(3, f"Windows are square here: {width_by_height(ours.patch_hw)} px, nearly the same area.")
    return lines


def _batch_limit(proposal: PlanProposal, fingerprint: DatasetFingerprint) -> str:
    if proposal.ours.batch_size == fingerprint.cases:
        return f"an epoch has one window of each of {pluralize(fingerprint.cases, 'case')}"
    return f"a step shows {100 * ENCODERS[proposal.encoder].covered:g} % of the pixels at most"


def _explain_steps(proposal: PlanProposal) -> str:
    text = f"{proposal.steps:,} steps with momentum 0.99 and (1 - t)^0.9: {proposal.epochs:,} passes over the cases."
    if proposal.epochs < _MAX_PASSES or proposal.steps >= _NNUNET_STEPS:
        return text
    theirs = round(_NNUNET_STEPS * proposal.epochs / proposal.steps)
    return f"{text} nnU-Net's {_NNUNET_STEPS:,} would be {theirs:,}; to take them: --steps {_NNUNET_STEPS}."


def _yaml_flow(numbers: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
