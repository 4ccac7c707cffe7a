"""What a case is worth when there is nothing to measure: empty masks, missing and failed predictions."""

from dataclasses import asdict, dataclass
from typing import Literal

from guidino_cli.errors import ConfigError, unknown

Worth = Literal["best", "worst", "exclude"]
Hd95 = Literal["pooled", "max", "to-mask"]


@dataclass(frozen=True)
class Policy:
    """The rules behind a table; written into every report.

    "best" is 1 for shares and 0 for distances and errors; "worst" is 0 for shares, the diagonal of the image (in the
    unit of the spacing) for distances and 1 for errors; "exclude" leaves the case out of that mean, and then `n used`
    is smaller than `n total`.

    Attributes:
        name: Name of the preset, or "custom".
        both_empty: Neither mask has the class, for shares and errors.
        both_empty_distance: The same for distances.
        truth_empty: Only the prediction has the class, for shares and errors.
        prediction_empty: Only the truth has the class, for shares and errors.
        one_empty_distance: Exactly one mask has the class, for distances.
        missing: No prediction file.
        failed: The prediction cannot be read or does not fit the truth.
        hd95: "pooled" (medpy), "max" (MONAI), or "to-mask" (the GuiDINO authors' code).
    """

    name: str = "guidino"
    both_empty: Worth = "best"
    both_empty_distance: Worth = "best"
    truth_empty: Worth = "worst"
    prediction_empty: Worth = "worst"
    one_empty_distance: Worth = "worst"
    missing: Worth = "worst"
    failed: Worth = "worst"
    hd95: Hd95 = "pooled"

    def worth(self, status: str, kind: str) -> Worth | None:
        """What a figure of this kind counts for a case of this status; None means: as measured."""
        is_distance = kind == "distance"
        table: dict[str, Worth] = {
            "both_empty": self.both_empty_distance if is_distance else self.both_empty,
            "truth_empty": self.one_empty_distance if is_distance else self.truth_empty,
            "prediction_empty": self.one_empty_distance if is_distance else self.prediction_empty,
            "missing": self.missing,
            "failed": self.failed,
        }
        return table.get(status)

    def describe(self) -> str:
        """One line for a table's caption."""
        parts = [f"both empty: {_words(self.both_empty, self.both_empty_distance)}"]
        one = {self.truth_empty, self.prediction_empty}
        if len(one) == 1:
            parts.append(f"one empty: {_words(self.truth_empty, self.one_empty_distance)}")
        else:
            parts.append(f"truth empty: {_words(self.truth_empty, self.one_empty_distance)}")
            parts.append(f"prediction empty: {_words(self.prediction_empty, self.one_empty_distance)}")
        parts.append(f"missing: {_words(self.missing, self.missing)}")
        return "; ".join(parts)

    def to_json(self) -> dict[str, str]:
        """All fields, for the report."""
        return asdict(self)


def _words(share: Worth, distance: Worth) -> str:
    words = {"best": "1", "worst": "0", "exclude": "left out"}
    lengths = {"best": "distance 0", "worst": "distance = image diagonal", "exclude": "distance left out"}
    if share == distance == "exclude":
        return "left out"
    return f"{words[share]}, {lengths[distance]}"


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
}


def get_policy(name: str) -> Policy:
    """A policy by name.

    Raises:
        ConfigError: No such policy.
    """
    if name not in POLICIES:
        raise ConfigError(unknown("policy", name, POLICIES))
    return POLICIES[name]
