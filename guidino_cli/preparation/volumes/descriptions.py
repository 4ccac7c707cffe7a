"""Classes and channels in `dataset.json` of nnU-Net and of the Medical Segmentation Decathlon."""

from pathlib import Path
from typing import Any, NamedTuple

from guidino_cli.errors import ConfigError, DataError
from guidino_cli.json_files import read_json_object

_RESTORE = "restore the file of the data set"


class NamedLabels(NamedTuple):
    """Classes that a data set names.

    Attributes:
        names: By class index, the background first.
        values: Value in the masks -> class index.
    """

    names: tuple[str, ...]
    values: dict[int, int]


def read_description(source: Path) -> dict[str, Any] | None:
    """Content of `dataset.json` in a folder; None if there is none."""
    path = source / "dataset.json"
    return read_json_object(path, hint=_RESTORE) if path.is_file() else None


def read_labels(description: dict[str, Any], source: Path) -> NamedLabels | None:
    """Classes by name and value; None if the file names none.

    Version 2 of nnU-Net has {"liver": 1}, version 1 and the Decathlon {"1": "liver"}. Values need not be consecutive;
    0 is the background. nnU-Net's label "ignore" is no class.

    Raises:
        DataError: Regions, which overlap, or a value that is not an integer or occurs twice.
    """
    labels = description.get("labels")
    if not isinstance(labels, dict) or not labels:
        return None
    path = source / "dataset.json"
    regions = [name for name, value in labels.items() if isinstance(value, list)]
    if regions:
        raise DataError(
            f"{path}: {', '.join(regions[:5])} {'is a region' if len(regions) == 1 else 'are regions'} of several "
            "labels, and regions overlap; give each class one value, or name the values with --classes and another "
            "dataset.json"
        )
    entries = [_entry(str(key), value, path) for key, value in labels.items() if key != "ignore" and value != "ignore"]
    names = dict(sorted(entries))
    if len(names) < len(entries):
        raise DataError(f"{path}: two labels have one value, found {labels}; give each class a value of its own")
    names = {0: names.pop(0, "background"), **names}
    if len(set(names.values())) < len(names):
        raise DataError(f"{path}: two labels have one name, found {labels}; give each class a name of its own")
    return NamedLabels(tuple(names.values()), {value: index for index, value in enumerate(names)})


def read_channels(description: dict[str, Any], source: Path) -> tuple[str, ...]:
    """Names of the channels, `channel_names` (nnU-Net 2) or `modality`; () if the file names none.

    Raises:
        DataError: The keys are not 0, 1, 2, ...
    """
    stated = description.get("channel_names") or description.get("modality") or {}
    path = source / "dataset.json"
    if not isinstance(stated, dict) or sorted(map(str, stated)) != sorted(map(str, range(len(stated)))):
        raise DataError(f'{path}: channels are {stated!r}, expected names by number such as {{"0": "CT"}}')
    return tuple(str(stated[key]) for key in sorted(stated, key=int))


def choose_channels(named: tuple[str, ...], chosen: tuple[str, ...], found: int, source: Path) -> tuple[str, ...]:
    """Names of the channels: as the user chose, else as the data set names them, else `channel_0`, `channel_1`, ...

    Args:
        named: By the data set; () if it names none.
        chosen: `--channels`; () if it is not given.
        found: Number of channels that there are.
        source: For messages.

    Raises:
        ConfigError: The user names another number of channels.
        DataError: The data set does.
    """
    if chosen and len(chosen) != found:
        raise ConfigError(f"--channels {','.join(chosen)}: names {len(chosen)}, but {source} has {found} a case")
    if not chosen and named and len(named) != found:
        raise DataError(
            f"{source / 'dataset.json'}: names {len(named)} channels ({', '.join(named)}), but cases have {found}"
        )
    default = ("image",) if found == 1 else tuple(f"channel_{number}" for number in range(found))
    return chosen or named or default


def _entry(key: str, value: object, path: Path) -> tuple[int, str]:
    """Value and name of a class."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value, key
    if isinstance(value, str) and key.lstrip("-").isdigit():
        return int(key), value
    if isinstance(value, str) and value.lstrip("-").isdigit():
        return int(value), key
    raise DataError(f'{path}: label {key!r}: {value!r}, expected a whole number for each name, such as "liver": 1')
