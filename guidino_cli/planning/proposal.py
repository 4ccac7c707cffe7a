"""A plan as a preset that one can read and edit: every number with the rule that it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from guidino_cli.planning.fingerprint import Fingerprint
from guidino_cli.planning.rules import ENCODERS, Plan, plan, settle

_NNUNET_STEPS = 1000 * 250
_LARGEST_EPOCHS = 1000


@dataclass(frozen=True)
class Proposal:
    """Settings for a data set.

    Attributes:
        encoder: "plain" or "residual".
        budget_gb: Memory that the network may fill.
        nnunet: nnU-Net's own plan; its patch may be oblong.
        ours: The plan with the square window that guidino trains on.
        steps: Of the optimiser, in all.
        epochs: Passes over the training cases that make up these steps.
        validate_every: Epochs from one validation to the next.
    """

    encoder: str
    budget_gb: float
    nnunet: Plan
    ours: Plan
    steps: int
    epochs: int
    validate_every: int


def propose(facts: Fingerprint, *, encoder: str, budget_gb: float, steps: int = _NNUNET_STEPS) -> Proposal:
    """Apply the rules to a fingerprint.

    Args:
        facts: Of the training cases.
        encoder: "plain" or "residual".
        budget_gb: Memory of the GPU that the network may fill, in GB.
        steps: Of the optimiser; nnU-Net's are 1000 times 250.
    """
    kind = ENCODERS[encoder]
    classes = 1 + len(facts.classes)
    theirs = plan(facts.median_hw, cases=facts.cases, classes=classes, encoder=kind, budget_gb=budget_gb)
    side = _square(theirs)
    ours = settle((side, side), facts.median_hw, cases=facts.cases, classes=classes, encoder=kind, budget_gb=budget_gb)
    epochs = max(1, round(steps / max(1, facts.cases // ours.batch_size)))
    return Proposal(encoder, budget_gb, theirs, ours, steps, epochs, max(1, ceil(epochs / _LARGEST_EPOCHS)))


def _square(plan: Plan) -> int:
    """The side of the square of nearly the same area that can be halved as often."""
    multiple = 2 ** (len(plan.widths) - 1)
    return max(1, round(prod(plan.patch_hw) ** 0.5 / multiple)) * multiple


def as_preset(proposal: Proposal, facts: Fingerprint, *, name: str) -> str:
    """The preset's text: YAML with comments."""
    ours = proposal.ours
    blocks = ENCODERS[proposal.encoder].blocks[: len(ours.widths)]
    return "\n".join(
        [
            *(f"# {line}" for line in reasons(proposal, facts, name=name)),
            f"description: nnU-Net's plan in two dimensions for {name}",
            "model:",
            "  segmenter:",
            "    name: nnunet",
            f"    options: {{encoder: {proposal.encoder}, widths: {_flow(ours.widths)}, blocks: {_flow(blocks)}}}",
            f"data: {{image_size: {ours.patch_hw[0]}, resize: none, augment: nnunet, foreground_crops: 0.33}}",
            "train:",
            f"  epochs: {proposal.epochs}",
            f"  batch_size: {ours.batch_size}",
            f"  validate_every: {proposal.validate_every}",
            "  optimizer: sgd",
            "  lr: 1e-2",
            "  weight_decay: 3e-5",
            "  schedule: poly",
            "  clip_norm: 12",
            "  loss: {dice: 1, cross_entropy: 1}",
            "predict: {overlap: 0.5, mirror: true}",
            "",
        ]
    )


def reasons(proposal: Proposal, facts: Fingerprint, *, name: str) -> list[str]:
    """Where every number comes from, a sentence or two a line."""
    theirs, ours = proposal.nnunet, proposal.ours
    batch = f"Batch {ours.batch_size}: what fits"
    if ours.capped_batch is not None:
        batch = f"Batch {ours.batch_size}, though {ours.capped_batch} would fit: a step shows 5 % of the pixels at most"
    lines = [
        f"For {name}, {facts.cases} training cases of {_by(facts.median_hw)} px (median), by nnU-Net's rules.",
        f"Network of up to {proposal.budget_gb:g} GB: {len(ours.widths)} stages, {proposal.encoder} encoder.",
        f"Patch: nnU-Net would take {_by(theirs.patch_hw)} px and a batch of {theirs.batch_size}.",
        f"{batch}.",
        f"{proposal.steps:,} steps with momentum 0.99 and (1 - t)^0.9 are {proposal.epochs:,} passes over the cases.",
        "Normalisation: ImageNet's, as everywhere here; nnU-Net would take each image's own mean and deviation.",
    ]
    if theirs.patch_hw != ours.patch_hw:
        lines.insert(3, f"Windows are square here: {_by(ours.patch_hw)} px, nearly the same area.")
    return lines


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _flow(numbers: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
