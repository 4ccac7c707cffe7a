"""What is compared: masks to be found, and the prediction of each."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Truth:
    """One mask to be found.

    Attributes:
        case: Name of the case in every report.
        path: Its mask.
        names: Stems a prediction may carry, the likeliest first.
        image: The image itself, where known.
        fields: What is known about the case (split, fold, group, ... of the manifest), for strata and groups.
    """

    case: str
    path: Path
    names: tuple[str, ...]
    image: Path | None = None
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A truth and its prediction, or None if there is no file for it."""

    truth: Truth
    prediction: Path | None


@dataclass(frozen=True)
class TruthSet:
    """The list of masks to be found.

    Attributes:
        truths: One per case.
        classes: Class names from the manifest, index = value; None if the truth is a plain folder.
        origin: One phrase for reports: where the list came from.
    """

    truths: list[Truth]
    classes: list[str] | None
    origin: str


@dataclass(frozen=True)
class Pairing:
    """The outcome of the matching.

    Attributes:
        pairs: One per truth, in its order.
        extra: Prediction files that belong to no truth.
        rule: One phrase: how names were compared.
        warnings: What looks odd, one line each.
    """

    pairs: list[Pair]
    extra: list[Path]
    rule: str
    warnings: list[str]
