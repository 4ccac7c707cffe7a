"""Group slices into volumes: by UID, size, pixel spacing, and attributes that distinguish slices at one position."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from guidino_cli.data.volumes.dicom.frames import Frame
from guidino_cli.data.volumes.dicom.headers import Header
from guidino_cli.data.volumes.dicom.regularity import SAME_POSITION_MM, count_positions, slice_normal

_ORIENTATION_TOLERANCE = 1e-3
_SPACING_TOLERANCE = 1e-3
"""Relative difference of pixel spacings that counts as rounding."""

Slice = tuple[Header, Frame]
Split = tuple[tuple[str, str], ...]


def group_slices(headers: Sequence[Header]) -> list[tuple[list[Slice], Split]]:
    """Slices of each volume, and what tells it apart from others of the same UID."""
    by_uid: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in headers:
        # Without a UID, files of one folder are taken together.
        by_uid[(header.series_uid, "" if header.series_uid else str(header.path.parent))].append(header)
    groups: list[tuple[list[Slice], Split]] = []
    for same in by_uid.values():
        sizes = {(header.columns, header.rows) for header in same}
        for width, height in sorted(sizes):
            slices = [
                (header, frame)
                for header in same
                if (header.columns, header.rows) == (width, height)
                for frame in header.frames or (_unplaced(header),)
            ]
            by_size: Split = (("size", f"{width}x{height}"),) if len(sizes) > 1 else ()
            for part, by_spacing in _split_by_spacing(slices):
                groups += [(final, by_size + by_spacing + split) for final, split in _split_repeats(part)]
    return groups


def _unplaced(header: Header) -> Frame:
    """Stands for the slices of a file that describes none."""
    return Frame(header.path, 0, None, None, None, None, 1.0, 0.0, ("", 0), ())


def _split_by_spacing(slices: list[Slice]) -> list[tuple[list[Slice], Split]]:
    parts: list[list[Slice]] = []
    for item in slices:
        for part in parts:
            if _is_same_spacing(item[1].spacing, part[0][1].spacing):
                part.append(item)
                break
        else:
            parts.append([item])
    if len(parts) == 1:
        return [(slices, ())]
    return [(part, (("pixel size", _format_pixel(part[0][1].spacing)),)) for part in parts]


def _is_same_spacing(one: tuple[float, float] | None, other: tuple[float, float] | None) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=_SPACING_TOLERANCE, atol=0))


def _format_pixel(spacing: tuple[float, float] | None) -> str:
    return "" if spacing is None else f"{spacing[1]:.4g}x{spacing[0]:.4g}"


def _split_repeats(slices: list[Slice]) -> list[tuple[list[Slice], Split]]:
    """Split slices that lie at the same positions by the first attribute that tells them apart."""
    offsets = find_offsets(slices)
    if offsets is None:
        return [(slices, ())]
    most = int(count_positions(np.sort(offsets)).max())
    if most == 1:
        return [(slices, ())]
    places = np.round(offsets / SAME_POSITION_MM).astype(int).tolist()
    for number, (name, _) in enumerate(slices[0][1].attributes):
        parts: dict[str, list[Slice]] = defaultdict(list)
        values_at: dict[int, set[str]] = defaultdict(set)
        for item, place in zip(slices, places, strict=True):
            value = item[1].attributes[number][1]
            parts[value].append(item)
            values_at[place].add(value)
        # More values than slices at one position number the slices, not the volumes.
        if 1 < len(parts) <= most and max(map(len, values_at.values())) > 1:
            return [
                (final, ((name, value), *split))
                for value, part in sorted(parts.items(), key=lambda pair: _by_number(pair[0]))
                for final, split in _split_repeats(part)
            ]
    return [(slices, ())]


def _by_number(value: str) -> tuple[float, str]:
    try:
        return float(value), value
    except ValueError:
        return float("inf"), value


def find_offsets(slices: Sequence[Slice]) -> np.ndarray | None:
    """Positions along the normal in mm; None if one is not stated, or directions differ."""
    frames = [frame for _, frame in slices]
    orientation = frames[0].orientation
    if orientation is None or len(count_orientations(frames)) > 1 or any(frame.position is None for frame in frames):
        return None
    if not is_orthonormal(orientation):
        return None
    return np.array([frame.position for frame in frames]) @ slice_normal(orientation)


def count_orientations(frames: Sequence[Frame]) -> list[int]:
    """Numbers of slices of each orientation."""
    known: list[tuple[float, ...] | None] = []
    counts: list[int] = []
    for frame in frames:
        for number, other in enumerate(known):
            if frame.orientation is None or other is None:
                is_same = frame.orientation is other
            else:
                is_same = bool(np.abs(np.subtract(frame.orientation, other)).max() <= _ORIENTATION_TOLERANCE)
            if is_same:
                counts[number] += 1
                break
        else:
            known.append(frame.orientation)
            counts.append(1)
    return counts


def is_orthonormal(orientation: Sequence[float]) -> bool:
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([row @ row, column @ column])
    return bool(np.abs(lengths - 1).max() < 0.01 and abs(row @ column) < 0.01)
