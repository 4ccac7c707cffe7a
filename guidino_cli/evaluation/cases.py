"""True masks, predicted masks and their pairs."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Truth:
    """The true mask of one case.

    Attributes:
        case: Name of the case in reports.
        path: File of the mask.
        names: Stems that its prediction may have, most likely first.
        image: File of the image, or folder of its DICOM series, where known.
        fields: Metadata of the case (split, fold, group, ... of the manifest), for strata and groups.
        series: Key of the DICOM series in the folder `image`; None for files, and for the only series.
    """

    case: str
    path: Path
    names: tuple[str, ...]
    image: Path | None = None
    fields: dict[str, str] = field(default_factory=dict)
    series: str | None = None


@dataclass(frozen=True)
class Pair:
    """A truth and the file of its prediction, None if there is none."""

    truth: Truth
    prediction: Path | None


@dataclass(frozen=True)
class TruthSet:
    """The true masks of an evaluation.

    Attributes:
        truths: One per case.
        classes: Class names from the manifest, index = value; None if the truth is a plain folder.
        origin: Where the masks come from, one phrase for reports.
        other_splits: Names of the masks of other splits of prepared data, in lower case too.
        ignore_label: Value of pixels that do not count in masks of prepared data; None if all count.
        has_instances: Whether prepared data holds instance numbers.
    """

    truths: list[Truth]
    classes: list[str] | None
    origin: str
    other_splits: frozenset[str] = frozenset()
    ignore_label: int | None = None
    has_instances: bool = False


@dataclass(frozen=True)
class Pairing:
    """Predictions matched with truths.

    Attributes:
        pairs: One per truth, in its order.
        extra: Prediction files without a truth, in any split.
        rule: How names were matched, one phrase for reports.
        warnings: Signs of a mistake, one line each.
        other_splits: Prediction files whose truth belongs to another split of prepared data.
        left_out: Cases without a prediction that are not scored, because the user asked for it.
        coverage: What the means do not cover, one sentence each; shown with them.
    """

    pairs: list[Pair]
    extra: list[Path]
    rule: str
    warnings: list[str]
    other_splits: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    coverage: list[str] = field(default_factory=list)
