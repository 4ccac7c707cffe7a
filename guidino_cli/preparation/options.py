"""Options of `guidino prepare`, validated and parsed."""

from dataclasses import dataclass

from guidino_cli.data.masks.rule import Classes
from guidino_cli.data.masks.values import IgnoredValue
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

    @property
    def ignore(self) -> IgnoredValue | None:
        """Mask value of pixels that do not count."""
        if self.options.ignore_label is None:
            return None
        codes = (self.classes.codes if self.classes else None) or {}
        return IgnoredValue.among(self.options.ignore_label, codes.items())
