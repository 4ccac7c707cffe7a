"""Policies for empty, missing and failed masks; configuration and scores of the cases."""

from dataclasses import asdict, dataclass, field
from typing import Literal

from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.evaluation.cases import Pair
from guidino_cli.evaluation.masks import MaskReader
from guidino_cli.metrics.instances import InstanceComparison
from guidino_cli.metrics.lesions import Lesions
from guidino_cli.metrics.overlap import ConfusionCounts
from guidino_cli.options.evaluation import ScoringOptions

PolicyRule = Literal["best", "worst", "exclude"]
Hd95Definition = Literal["pooled", "max", "to-mask"]


@dataclass(frozen=True)
class Policy:
    """Values of metrics where masks are empty, missing or unusable; recorded in every report.

    "best" is 1 for shares and 0 for distances and errors; "worst" is 0 for shares, the diagonal of the image (in the
    unit of the spacing) for distances and 1 for errors; "exclude" leaves the case out of the mean, so that `n used` is
    smaller than `n total`.

    Attributes:
        name: Name of the preset, or "custom".
        both_empty: For shares and errors if neither mask contains the class.
        both_empty_distance: The same for distances.
        truth_empty: For shares and errors if only the prediction contains the class.
        prediction_empty: For shares and errors if only the truth contains the class.
        one_empty_distance: For distances if exactly one mask contains the class.
        missing: If there is no prediction file.
        failed: If the prediction cannot be read or its grid differs from the truth's.
        hd95: "pooled" (medpy), "max" (MONAI), or "to-mask" (the GuiDINO authors' code).
    """

    name: str = "guidino"
    both_empty: PolicyRule = "best"
    both_empty_distance: PolicyRule = "best"
    truth_empty: PolicyRule = "worst"
    prediction_empty: PolicyRule = "worst"
    one_empty_distance: PolicyRule = "worst"
    missing: PolicyRule = "worst"
    failed: PolicyRule = "worst"
    hd95: Hd95Definition = "pooled"

    def rule_for(self, status: str, kind: str) -> PolicyRule | None:
        """Rule for a metric of this kind in a case of this status; None keeps the measured value.

        Volumes are measured where a mask is empty too: there, false positives are all that can be seen.
        """
        if kind == "volume" and status not in {"missing", "failed"}:
            return None
        is_distance = kind == "distance"
        table: dict[str, PolicyRule] = {
            "both_empty": self.both_empty_distance if is_distance else self.both_empty,
            "truth_empty": self.one_empty_distance if is_distance else self.truth_empty,
            "prediction_empty": self.one_empty_distance if is_distance else self.prediction_empty,
            "missing": self.missing,
            "failed": self.failed,
        }
        return table.get(status)

    def describe(self) -> str:
        """One line for the caption of a table."""
        parts = [f"both empty: {_describe_rule(self.both_empty, self.both_empty_distance)}"]
        one = {self.truth_empty, self.prediction_empty}
        if len(one) == 1:
            parts.append(f"one empty: {_describe_rule(self.truth_empty, self.one_empty_distance, measured=True)}")
        else:
            for side, rule in (("truth", self.truth_empty), ("prediction", self.prediction_empty)):
                parts.append(f"{side} empty: {_describe_rule(rule, self.one_empty_distance, measured=True)}")
        parts.append(f"missing: {_describe_rule(self.missing, self.missing)}")
        return "; ".join(parts)

    def describe_instances(self) -> str:
        """One line for the caption of a table of adapted Rand errors (ARE) and variations of information (VOI)."""
        measured = {"best": "ARE 0, VOI as measured", "worst": "ARE 1, VOI as measured", "exclude": "left out"}
        missing = {"best": "ARE 0, VOI 0", "worst": "ARE 1, VOI = log2 of the number of pixels", "exclude": "left out"}
        parts = [f"both empty: {missing[self.both_empty]}"]
        if self.truth_empty == self.prediction_empty:
            parts.append(f"one empty: {measured[self.truth_empty]}")
        else:
            parts.append(f"truth empty: {measured[self.truth_empty]}")
            parts.append(f"prediction empty: {measured[self.prediction_empty]}")
        parts.append(f"missing: {missing[self.missing]}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, str]:
        """All fields, for report.json."""
        return asdict(self)


def _describe_rule(share: PolicyRule, distance: PolicyRule, *, measured: bool = False) -> str:
    """Values by a rule; `measured` if some shares have a value of their own, as specificity has with one empty mask."""
    shares = {"best": "1", "worst": "0 where undefined" if measured else "0", "exclude": "left out"}
    distances = {"best": "distance 0", "worst": "distance = image diagonal", "exclude": "distance left out"}
    if share == distance == "exclude":
        return "left out"
    return f"{shares[share]}, {distances[distance]}"


POLICIES: dict[str, Policy] = {
    "guidino": Policy(),
    # nnU-Net v2, compute_metrics: NaN where neither mask has the class, then nanmean; cases come from the folder of
    # predictions, so a missing one disappears. It has no distances; they are left out wherever a mask is empty.
    "nnunet": Policy(
        name="nnunet",
        both_empty="exclude",
        both_empty_distance="exclude",
        one_empty_distance="exclude",
        missing="exclude",
    ),
    # MONAI 1.6, DiceMetric(ignore_empty=True) and HausdorffDistanceMetric: an empty truth is NaN whatever was
    # predicted, and so is the distance when either mask is empty; the mean drops NaN.
    "monai": Policy(
        name="monai",
        both_empty="exclude",
        both_empty_distance="exclude",
        truth_empty="exclude",
        one_empty_distance="exclude",
        missing="exclude",
        hd95="max",
    ),
    # GuiDINO, evaluate_offline.py with its defaults: distances to the other mask and not to its border, averaged over
    # the pairs in which neither mask is empty; predictions that do not exist are skipped.
    "guidino-paper": Policy(
        name="guidino-paper",
        both_empty="exclude",
        both_empty_distance="exclude",
        one_empty_distance="exclude",
        missing="exclude",
        hd95="to-mask",
    ),
    # autoPET: where the truth has no lesion, only the false-positive volume counts. Its ranking has no distances; they
    # are left out wherever a mask is empty.
    "autopet": Policy(
        name="autopet",
        both_empty="exclude",
        both_empty_distance="exclude",
        truth_empty="exclude",
        one_empty_distance="exclude",
    ),
}


def get_policy(name: str) -> Policy:
    """A policy by name.

    Raises:
        ConfigError: No such policy.
    """
    if name not in POLICIES:
        raise ConfigError(unknown_name("policy", name, POLICIES))
    return POLICIES[name]


ScoreStatus = Literal["ok", "both_empty", "truth_empty", "prediction_empty", "missing", "failed"]


@dataclass(frozen=True)
class Target:
    """A class, or a region of several classes, that is scored.

    Attributes:
        name: Heading in reports.
        labels: Class indices whose union is the target.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class ScoringConfig:
    """Everything that decides the metrics of a case; the same for all cases of an evaluation.

    Attributes:
        targets: Classes or regions to score.
        metrics: Names from `METRICS`, in the order of the report.
        policy: Values where there is nothing to measure.
        truth: Reader of the true masks.
        predictions: Reader of the predicted masks.
        spacing: Pixel size along the array axes in mm, for masks that do not carry one; None counts in pixels.
        medpy: Take HD95, HD, ASD and ASSD from medpy itself, and record how far guidino's differ.
        options: The user's options; read for those that need no parsing, such as the tolerance.
    """

    targets: tuple[Target, ...]
    metrics: tuple[str, ...]
    policy: Policy
    truth: MaskReader
    predictions: MaskReader
    spacing: tuple[float, ...] | None = None
    medpy: bool = False
    options: ScoringOptions = field(default_factory=ScoringOptions)


@dataclass(frozen=True)
class Score:
    """Metrics of one case and one target.

    Attributes:
        target: Name of the target.
        status: "ok", or why nothing could be measured.
        counts: Confusion counts in pixels; None if the truth could not be read.
        values: Each configured metric after the policy; NaN where the policy leaves the case out.
        lesions: Connected objects, if a lesion metric is configured.
        instances: What became of the true instances, if an instance metric is configured and both sides could be read.
        deviation: Largest difference between medpy's surface metrics and guidino's, if medpy is used.
    """

    target: str
    status: ScoreStatus
    counts: ConfusionCounts | None
    values: dict[str, float]
    lesions: Lesions | None = None
    deviation: float = 0.0
    instances: InstanceComparison | None = None


@dataclass(frozen=True)
class CaseResult:
    """Scores of one case.

    Attributes:
        pair: The files.
        scores: One per target, in the order of the configuration.
        shape: Grid of the truth, or None if it could not be read.
        spacing: Pixel size along the axes.
        unit: "mm" or "px".
        note: Why the case failed, or how the prediction was adjusted; "" if neither.
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
