"""Options of `guidino prepare`."""

from dataclasses import dataclass

from guidino_cli.data.masks.rule import Classes
from guidino_cli.preparation.splits import Ratios


@dataclass(frozen=True)
class PrepareOptions:
    """Validated options of `guidino prepare`."""

    layout: str
    classes: Classes | None
    binary: bool
    threshold: float | None
    ratios: Ratios | None
    folds: int | None
    group_by: str | None
    seed: int
    include_normal: bool
    allow_unpaired: bool
    skip_bad: bool
    copy: bool
    export_name: str | None
    name: str
