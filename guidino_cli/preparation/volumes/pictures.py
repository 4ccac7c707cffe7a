"""Pictures that 8-bit RGB cannot hold, prepared as volumes of one slice with all channels and bits."""

from dataclasses import replace
from pathlib import Path

from guidino_cli.data.volumes import pictures
from guidino_cli.errors import ConfigError
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.types import DiscoveredDataset
from guidino_cli.preparation.volumes.descriptions import choose_channels, read_channels, read_description, read_labels

_RGB_FILES = 3
_COLOURS = ("red", "green", "blue")


def keep_numbers(source: Path, dataset: DiscoveredDataset, config: VolumeConfig, *, wanted: bool) -> DiscoveredDataset:
    """Turn a data set of pictures into one of volumes of one slice, if RGB cannot hold them or the user wants it.

    Args:
        source: Its folder or CSV.
        dataset: Data set of images or volumes.
        config: Options for volumes.
        wanted: Whether the user asked for arrays (`--store`); naming the channels asks for them, too.

    Returns:
        The data set; unchanged if it has volumes, or pictures that are read as RGB.

    Raises:
        ConfigError: `--channels` names another number of channels than there are.
        DataError: The first picture cannot be read, or the data set names another number of channels.
    """
    most = max((len(pair.images) for pair in dataset.pairs), default=0)
    if dataset.is_volumes or not (wanted or config.channels or most > _RGB_FILES):
        return dataset
    if dataset.needs_merging:
        raise ConfigError(
            "--store and --channels keep the numbers of pictures, whose masks are then read as they are; these have "
            "several masks each, save one file with a number for each class"
        )
    description = read_description(source) if source.is_dir() else None
    named = read_channels(description, source) if description is not None else ()
    first = dataset.pairs[0].images
    found = most if most > 1 else _count_channels(first[0])
    names = choose_channels(named if len(named) == found else (), config.channels, found, source)
    if found == len(_COLOURS) and not (config.channels or named) and most == 1:
        names = _COLOURS
    labels = read_labels(description, source) if description is not None else None
    kept = f"numbers of the pictures are kept ({', '.join(names)})"
    return replace(
        dataset,
        is_volumes=True,
        channels=names,
        class_names=dataset.class_names if labels is None else labels.names,
        label_values=None if labels is None else labels.values,
        notes=[*dataset.notes, kept],
    )


def _count_channels(path: Path) -> int:
    values = pictures.read_source(path).values
    return 1 if values.ndim == 3 else int(values.shape[3])
