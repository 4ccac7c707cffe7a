"""Options of `guidino prepare`, validated and parsed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from guidino_cli.data.masks.rule import Classes
from guidino_cli.data.masks.values import IgnoredValue
from guidino_cli.data.volumes.spacing import KEEP, Target
from guidino_cli.data.volumes.stored import NUMPY_SUFFIX
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.splits import Ratios


@dataclass(frozen=True)
class VolumeConfig:
    """Options that are for volumes only.

    Attributes:
        spacing_mm: Target along Z, Y, X; None for nnU-Net's rule.
        array_suffix: Of the stored arrays: .npy, or .b2nd with compression.
        orientation: Directions of the axes, such as "RAS", of volumes whose header states none.
        ignore_headers: Take masks and further channels voxel by voxel, whatever their headers say.
        channels: Names of the channels; () for those that the layout knows.
        series: Text in the description of a DICOM series, or its key.
        mask_suffixes: Endings of the names of masks, such as "_seg"; () for the usual ones.
        onto: Name of the channel whose grid the others are resampled to; None for the first.
        onto_position: Its position among the channels, once they are known.
    """

    spacing_mm: Target | None = KEEP
    array_suffix: str = NUMPY_SUFFIX
    orientation: str | None = None
    ignore_headers: bool = False
    channels: tuple[str, ...] = ()
    series: str | None = None
    mask_suffixes: tuple[str, ...] = ()
    onto: str | None = None
    onto_position: int = 0

    def on_channel_of(self, channels: Sequence[str]) -> "VolumeConfig":
        """The configuration with the position of the channel that `onto` names; `ConfigError` if there is none."""
        if self.onto is None:
            return self
        if self.onto not in channels:
            raise ConfigError("--onto: " + unknown_name("channel", self.onto, channels))
        return replace(self, onto_position=list(channels).index(self.onto))


@dataclass(frozen=True)
class PreparationConfig:
    """Validated configuration of `prepare`.

    Attributes:
        options: The options as given.
        name: Name of the data set.
        classes: Parsed `options.classes`.
        ratios: Parsed `options.split`; None for the official split or the default.
        export_name: Folder of the nnU-Net export, or None.
        volumes: Options that are for volumes only.
    """

    options: PrepareOptions
    name: str
    classes: Classes | None
    ratios: Ratios | None
    export_name: str | None
    volumes: VolumeConfig = VolumeConfig()

    def with_ignore_label(self, label: int | None) -> "PreparationConfig":
        """The configuration with the ignore label that a data set states itself, unless the user gave one."""
        if label is None or self.options.ignore_label is not None:
            return self
        return replace(self, options=replace(self.options, ignore_label=label))

    @property
    def ignore(self) -> IgnoredValue | None:
        """Mask value of pixels that do not count."""
        if self.options.ignore_label is None:
            return None
        codes = (self.classes.codes if self.classes else None) or {}
        return IgnoredValue.among(self.options.ignore_label, codes.items())
