"""What is asked of every case, and what it scores."""

from dataclasses import dataclass
from typing import Literal

from guidino_cli.evaluation.pairs.cases import Pair
from guidino_cli.evaluation.policy import Policy
from guidino_cli.evaluation.reading import MaskReader
from guidino_cli.metrics.lesions import Lesions
from guidino_cli.metrics.overlap import Counts

Status = Literal["ok", "both_empty", "truth_empty", "prediction_empty", "missing", "failed"]


@dataclass(frozen=True)
class Target:
    """What is scored: one class, or a region of several.

    Attributes:
        name: Heading in every report.
        labels: Class indices whose union is the target.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """Everything that decides the figures of a case; the same for all cases of a run.

    Attributes:
        targets: What is scored, one row each.
        metrics: Names from `METRICS`, in the order of the report.
        policy: What counts when there is nothing to measure.
        truth: How truths are read.
        predictions: How predictions are read.
        spacing: Pixel size along the array axes in mm, for masks that do not carry one; None counts in pixels.
        tolerance: Of the NSD, in the unit of the spacing.
        lesion_iou: Overlap from which two connected objects may be partners.
        medpy: Take HD95, HD, ASD and ASSD from medpy itself, and note how far guidino's differ.
        resample: Bring a prediction of another grid to that of the truth by the nearest pixel, instead of failing.
        ignore_headers: Volumes belong together voxel by voxel, wherever their headers place them.
    """

    targets: tuple[Target, ...]
    metrics: tuple[str, ...]
    policy: Policy
    truth: MaskReader
    predictions: MaskReader
    spacing: tuple[float, ...] | None = None
    tolerance: float = 2.0
    lesion_iou: float = 0.1
    medpy: bool = False
    resample: bool = False
    ignore_headers: bool = False


@dataclass(frozen=True)
class Score:
    """One case and one target.

    Attributes:
        target: Name of the target.
        status: "ok", or why nothing could be measured.
        counts: Pixels; None if the truth could not be read.
        values: One figure per metric of the job, after the policy; NaN where the policy leaves the case out.
        lesions: Connected objects, where the job asks for them.
        deviation: How far medpy's surface figures differ from guidino's at most, where the job asks for medpy's.
    """

    target: str
    status: Status
    counts: Counts | None
    values: dict[str, float]
    lesions: Lesions | None = None
    deviation: float = 0.0


@dataclass(frozen=True)
class CaseResult:
    """One case.

    Attributes:
        pair: The files.
        scores: One per target, in the order of the job.
        shape: Grid of the truth, or None if it could not be read.
        spacing: Pixel size along the axes.
        unit: "mm" or "px".
        note: What went wrong or was done to the prediction; "" if nothing.
    """

    pair: Pair
    scores: tuple[Score, ...]
    shape: tuple[int, ...] | None
    spacing: tuple[float, ...] | None
    unit: str
    note: str = ""

    @property
    def is_problem(self) -> bool:
        """Whether the prediction is missing or could not be used."""
        return any(score.status in {"missing", "failed"} for score in self.scores)
