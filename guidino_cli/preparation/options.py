"""Options of `guidino prepare`, validated and parsed."""

from dataclasses import dataclass

from guidino_cli.data.masks.rule import Classes
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.splits import Ratios


@dataclass(frozen=True)
class PreparationConfig:
    """Validated configuration of `prepare`.

    Attributes:
        options: The options as given.
        name: Name of the data set.
        classes: Parsed `options.classes`.
        ratios: Parsed `options.split`; None for the official split or the default.
        export_name: Folder of the nnU-Net export, or None.
    """

    options: PrepareOptions
    name: str
    classes: Classes | None
    ratios: Ratios | None
    export_name: str | None
