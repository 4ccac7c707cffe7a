"""From the values of label volumes to class indices, or to instance numbers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from guidino_cli.data.cases import IGNORED
from guidino_cli.data.masks.rule import default_class_names, format_values
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.options.data import PrepareOptions
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.progress import pluralize

MAX_CLASSES = 256
"""More values that nobody named are intensities, or numbers of instances."""
_MAX_INSTANCES = 65535


@dataclass(frozen=True)
class LabelTable:
    """Table from the values of masks to classes.

    Attributes:
        names: Class names by index, the background first.
        values: Value -> class index; None if every value but 0 is foreground.
        why: The rule in one sentence.
        ignored: Value of voxels that do not count, or None.
        threshold: Values above it are foreground; with it `values` is None.
        instances: "numbers" if the values number instances, "components" if connected parts of the foreground are
            instances; None for classes.
    """

    names: tuple[str, ...]
    values: Mapping[int, int] | None
    why: str
    ignored: int | None = None
    threshold: float | None = None
    instances: Literal["numbers", "components"] | None = None

    def class_of(self, value: int) -> int | None:
        """Class of a value, `IGNORED` of voxels that do not count; None if no class has it."""
        if value == self.ignored:
            return IGNORED
        if self.values is None:
            return int(value != 0 if self.threshold is None else value > self.threshold)
        return self.values.get(value)

    def unknown(self, values: Iterable[int]) -> list[int]:
        """Values that no class has."""
        return [value for value in values if self.class_of(value) is None]

    def count(self, voxels: Mapping[int, int]) -> np.ndarray:
        """(K,) voxels of each class that count, from the voxels of each value."""
        counts = np.zeros(len(self.names), dtype=np.int64)
        for value, number in voxels.items():
            index = self.class_of(value)
            if index is not None and value != self.ignored:
                counts[index] += number
        return counts

    def apply(self, labels: np.ndarray, voxels: Mapping[int, int]) -> np.ndarray:
        """Class indices of the values of a mask: uint8, or uint16 of more than 255 classes and of instances.

        Args:
            labels: Integers of any shape.
            voxels: The values that occur, as in `count`; each has a class.
        """
        if self.instances == "numbers":
            return number_instances(labels)
        values = np.array(sorted(voxels), dtype=np.int64)
        kind = np.uint8 if len(self.names) <= IGNORED else np.uint16
        classes = np.array([self.class_of(value) for value in values.tolist()], dtype=kind)
        if values.size and values[0] >= 0 and values[-1] <= 65535:
            table = np.zeros(values[-1] + 1, dtype=kind)
            table[values] = classes
            found = np.asarray(table[labels])
        else:
            found = np.asarray(classes[np.searchsorted(values, labels)])
        return found if self.instances is None else number_components(found)


def decide_labels(
    found: Iterable[Mapping[int, int]], dataset: DiscoveredDataset, config: PreparationConfig
) -> LabelTable:
    """Decide which class each value is: by `--classes`, else by the data set, else in the order of the values.

    Args:
        found: Voxels of each value, for each mask.
        dataset: May name classes and their values.
        config: May name classes, ask for two of them, or name a value that does not count.

    Raises:
        ConfigError: Names that do not fit.
        DataError: Too many values.
    """
    ignored = config.options.ignore_label
    values = sorted({value for voxels in found for value in voxels} - {ignored})
    table = _decide(values, dataset, config)
    if ignored is not None and len(table.names) > IGNORED:
        raise ConfigError(f"--ignore-label {ignored}: needs at most {IGNORED} classes, found {len(table.names)}")
    if ignored is not None and table.values is not None and ignored in table.values:
        raise ConfigError(f"--ignore-label {ignored}: is the class {table.names[table.values[ignored]]}")
    return table


def _decide(values: list[int], dataset: DiscoveredDataset, config: PreparationConfig) -> LabelTable:
    ignored, options = config.options.ignore_label, config.options
    if options.instances is not None:
        return _decide_instances(values, options)
    names = config.classes.names if config.classes else None
    codes = config.classes.codes if config.classes else None
    if codes is not None:
        if any(isinstance(code, tuple) for code in codes):
            raise ConfigError(f"--classes {options.classes}: names colours, but volumes have numbers: 0=background,2=x")
        table = {code: index for code, index in codes.items() if isinstance(code, int)}
        return LabelTable(names or (), table, f"{len(table)} values are looked up in --classes", ignored)
    if options.binary or options.threshold is not None:
        limit = "but 0" if options.threshold is None else f"above {options.threshold:g}"
        names = names or dataset.class_names or default_class_names(2)
        if len(names) != 2:
            option = "--binary" if options.binary else "--threshold"
            raise ConfigError(f"{option} makes 2 classes, but {len(names)} are named: {', '.join(names)}")
        return LabelTable(names, None, f"every value {limit} is foreground", ignored, options.threshold)
    if dataset.label_values is not None:
        return _named_by_data_set(dataset, names, ignored)
    foreground = [value for value in values if value != 0]
    if len(foreground) >= MAX_CLASSES:
        raise DataError(
            f"masks hold {len(foreground) + 1:,} values ({format_values([0, *foreground])}), expected labels; if they "
            "are numbers of instances, --binary takes them as one class; if they are intensities, masks and volumes "
            "are mixed up"
        )
    if names is not None and set(values) <= set(range(len(names))):
        return LabelTable(names, {index: index for index in range(len(names))}, "values are class indices", ignored)
    if names is not None and len(names) != len(foreground) + 1:
        found = format_values([0, *foreground])
        raise ConfigError(
            f"--classes {options.classes}: names {pluralize(len(names), 'class', 'classes')}, masks hold {found}; map "
            "values: --classes '0=background,255=lesion'"
        )
    table = {0: 0} | {value: index for index, value in enumerate(foreground, start=1)}
    if foreground == list(range(1, len(foreground) + 1)):
        return LabelTable(names or default_class_names(max(2, len(table))), table, "values are class indices", ignored)
    if names is None:
        names = default_class_names(2) if len(foreground) == 1 else _names_by_value(foreground)
    pairs = ", ".join(f"{value} is {names[index]}" for value, index in list(table.items())[:10])
    return LabelTable(names, table, f"values are classes in the order of the numbers: {pairs}", ignored)


def _decide_instances(values: list[int], options: PrepareOptions) -> LabelTable:
    """The table of masks of instances; the two names are what its foreground and background are called."""
    names = ("background", "instance")
    if values and values[0] < 0:
        raise DataError(f"masks hold negative values ({format_values(values)}), expected instance numbers from 0")
    if options.instances == "components":
        limit = "but 0" if options.threshold is None else f"above {options.threshold:g}"
        why = f"connected parts of values {limit} are instances"
        return LabelTable(names, None, why, threshold=options.threshold, instances="components")
    numbers = [value for value in values if value != 0]
    if len(numbers) == 1:
        raise DataError(
            f"all masks hold one value besides 0, {numbers[0]}, which is a class, not numbers of instances; if its "
            "connected parts are the instances, give --instances components"
        )
    return LabelTable(names, None, "every value but 0 is the number of an instance", instances="numbers")


def number_instances(labels: np.ndarray) -> np.ndarray:
    """Instance numbers 1, 2, ... in the order of the values, uint16; 0 stays the background.

    Raises:
        DataError: More than 65,535 instances.
    """
    values, place = np.unique(labels, return_inverse=True)
    kept = values != 0
    return _as_stored(np.where(kept, np.cumsum(kept), 0)[place].reshape(labels.shape))


def number_components(labels: np.ndarray) -> np.ndarray:
    """Number the parts of the foreground that are connected across faces (of a picture, edges), uint16.

    Raises:
        DataError: More than 65,535 instances.
    """
    from scipy.ndimage import label

    return _as_stored(label(labels > 0)[0])


def _as_stored(numbers: np.ndarray) -> np.ndarray:
    most = int(numbers.max(initial=0))
    if most > _MAX_INSTANCES:
        raise DataError(
            f"a mask holds {most:,} instances, expected at most {_MAX_INSTANCES:,}; cut the volume in parts"
        )
    return numbers.astype(np.uint16)


def _named_by_data_set(dataset: DiscoveredDataset, names: tuple[str, ...] | None, ignored: int | None) -> LabelTable:
    known = dataset.class_names or ()
    if names is not None and len(names) != len(known):
        raise ConfigError(f"--classes: {len(names)} are named, the data set has {len(known)} ({', '.join(known)})")
    table = dataset.label_values or {}
    pairs = ", ".join(f"{value} is {(names or known)[index]}" for value, index in list(table.items())[:10])
    return LabelTable(names or known, table, f"classes are those of dataset.json: {pairs}", ignored)


def _names_by_value(values: list[int]) -> tuple[str, ...]:
    return ("background", *(f"class_{value}" for value in values))


def refuse_unknown(table: LabelTable, voxels: Mapping[int, int]) -> None:
    """Refuse a mask with values that no class has; the caller adds the file.

    Raises:
        DataError: Some have none.
    """
    if unknown := table.unknown(sorted(voxels)):
        count = sum(voxels[value] for value in unknown)
        known = format_values(sorted(table.values or {}))
        raise DataError(
            f"has the {'label' if len(unknown) == 1 else 'labels'} {format_values(unknown)} in "
            f"{pluralize(count, 'voxel')}, which the data set does not name (it names {known}); correct the mask, or "
            "name all with --classes '0=background,...'"
        )
