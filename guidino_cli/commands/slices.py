"""`guidino slices`: cut CT and MR volumes into 8-bit slices for pretraining."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.data.volumes.slices import SliceSettings
from guidino_cli.errors import DataError, PartialError
from guidino_cli.outputs import require_writable
from guidino_cli.preparation.slices import SliceResult, find_misnamed_folders, find_volumes, slice_volumes, start_folder
from guidino_cli.preparation.volume_kinds import describe_other_volumes
from guidino_cli.progress import join_first, log_info, log_warning, pluralize, track


def run(
    folder: Path, *, out: Path, settings: SliceSettings, shard: tuple[int, int], keep_label_maps: bool = False
) -> None:
    """Write the slices of all volumes of a shard; finished volumes are skipped.

    Raises:
        DataError: No volume could be used.
        PartialError: Some volumes could not be read; they are listed.
    """
    volumes = find_volumes(folder, shard=shard)
    require_writable(out)
    start_folder(out, settings)
    results = []
    items = slice_volumes(folder, volumes, out, settings, keep_label_maps=keep_label_maps)
    for item in track(items, total=len(volumes), description="volumes"):
        results.append(item)
        if item.error is not None:
            log_info(f"guidino: {item.error}")
    _report_left_out(folder, results)
    _warn_of_other_units(results, settings)
    failed = [item.volume for item in results if item.error is not None]
    left_out = sum(item.is_left_out for item in results)
    done = sum(item.error is None and item.slices is None for item in results) - left_out
    cut = [item for item in results if item.slices is not None]
    written = sum(item.slices or 0 for item in cut)
    kept = f", {done} were done before" if done else ""
    print(f"{pluralize(written, 'slice')} of {pluralize(len(cut), 'volume')} in {out}{kept}")
    if volumes and not cut and not done:
        raise DataError(f"{folder}: no image among {pluralize(len(volumes), 'volume')}: {_reasons(left_out, failed)}")
    if written or done:
        print(f"next: guidino pretrain {out} -o BACKBONE --set data.light=window")
    if failed:
        raise PartialError(
            f"{len(failed)} of {pluralize(len(volumes), 'volume')} could not be read: {join_first(failed)}"
        )


def _report_left_out(folder: Path, results: Sequence[SliceResult]) -> None:
    """Name the label maps, folders and files of other formats that are not cut, and voxels without a value."""
    maps = [item for item in results if item.is_left_out]
    if maps:
        names = [f"{item.volume} ({pluralize(_label_count(item), 'value')})" for item in maps]
        log_info(
            f"left out {pluralize(len(maps), 'label map')}, which hold only whole numbers in uniform areas: "
            f"{join_first(names, limit=3)}; --keep-label-maps cuts them too"
        )
    with_nan = [item for item in results if item.slices is not None and item.content and item.content.nan_count]
    if with_nan:
        names = [f"{item.volume} ({item.content.nan_count:,} voxels)" for item in with_nan if item.content]
        log_warning(
            f"{pluralize(len(with_nan), 'volume')} with NaN, which is cut as black: {join_first(names, limit=3)}"
        )
    if misnamed := find_misnamed_folders(folder):
        log_warning(f"skipped, because they are folders without a NIfTI file: {join_first(misnamed, limit=3)}")
    if others := describe_other_volumes(folder):
        log_warning(f"skipped, because only NIfTI is read: {others}")


def _label_count(item: SliceResult) -> int:
    return (item.content.label_count if item.content else None) or 0


def _warn_of_other_units(results: Sequence[SliceResult], settings: SliceSettings) -> None:
    """Warn where a window in HU was applied to volumes that hold other units, as MR does."""
    if settings.window is None or settings.window[0] - settings.window[1] / 2 >= 0:
        return
    cut = [item for item in results if item.slices and item.content is not None]
    other = [item for item in cut if item.content is not None and not item.content.is_hu]
    if not other or other[0].content is None:
        return
    first, content = other[0].volume, other[0].content
    level, width = settings.window
    white = sum(item.white * (item.slices or 0) for item in other) / sum(item.slices or 0 for item in other)
    log_warning(
        f"{len(other)} of {pluralize(len(cut), 'volume')} hold no HU (fat would be -100, air -1000), such as {first} "
        f"with values from {content.low:g} to {content.high:g}; with --window {level:g},{width:g} {100 * white:.0f} % "
        "of their pixels are white; for MR use --window auto and another -o, for CT correct the intercept in the header"
    )


def _reasons(left_out: int, failed: Sequence[str]) -> str:
    counts = [(pluralize(left_out, "label map"), left_out), (f"{len(failed)} could not be read", len(failed))]
    return ", ".join(text for text, count in counts if count)
