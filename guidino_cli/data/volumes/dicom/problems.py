"""Why slices that belong together are no volume, in one sentence with the numbers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from guidino_cli.data.volumes.dicom.datasets import import_dicom
from guidino_cli.data.volumes.dicom.frames import Frame
from guidino_cli.data.volumes.dicom.grouping import count_orientations, is_orthonormal
from guidino_cli.data.volumes.dicom.headers import Header
from guidino_cli.data.volumes.dicom.regularity import describe_irregularity, slice_normal
from guidino_cli.progress import join_first, pluralize


def describe_bad_files(headers: Sequence[Header]) -> str:
    """Problems of single files: how many have one, and the first of them."""
    bad = [header for header in headers if header.problem]
    if bad:
        more = f" (and {len(bad) - 1} more of {pluralize(len(headers), 'file')})" if len(bad) > 1 else ""
        return f"{bad[0].path.name}{more}: {bad[0].problem}"
    kinds = {(header.bits_allocated, header.is_signed, header.photometric) for header in headers}
    if len(kinds) > 1:
        found = join_first([f"{bits} bits {'signed' if is_signed else 'unsigned'}" for bits, is_signed, _ in kinds])
        return f"its files differ in the kind of their pixels ({found})"
    for syntax in sorted({header.syntax for header in headers}):
        if problem := _describe_syntax(syntax):
            return problem
    return ""


def _describe_syntax(syntax: str) -> str:
    """Why pixels of a transfer syntax cannot be decoded here; "" if they can."""
    uid = import_dicom("pydicom.uid").UID(syntax)
    if not syntax or not uid.is_transfer_syntax or not uid.is_compressed or uid.name.startswith("Deflated"):
        return ""
    try:
        decoder = import_dicom("pydicom.pixels").get_decoder(uid)
    except NotImplementedError:
        return f"its pixels are compressed as {uid.name}, which cannot be decoded; save it uncompressed"
    if decoder.is_available:
        return ""
    return f"its pixels are compressed as {uid.name}: pip install python-gdcm"


def describe_grid(frames: Sequence[Frame], offsets: np.ndarray | None, *, allow_single: bool) -> str:
    counts = count_orientations(frames)
    if len(counts) > 1:
        found = ", ".join(map(str, counts[:-1])) + f" and {counts[-1]}"
        kind = ", as localizers have" if len(counts) == 3 else ""
        return f"its slices have {len(counts)} orientations ({found} slices{kind}), expected one"
    orientation = frames[0].orientation
    unplaced = sum(frame.position is None for frame in frames)
    if orientation is None or unplaced:
        some = f"{unplaced} of {len(frames)} slices" if 0 < unplaced < len(frames) else "its files"
        return f"{some} do not state where in the patient they lie (ImagePositionPatient, ImageOrientationPatient)"
    if offsets is None or not is_orthonormal(orientation):
        return "its rows and columns are not at right angles (ImageOrientationPatient)"
    if len(frames) < 2 and not allow_single:
        return "it has 1 slice, expected at least 2"
    if twins := _describe_twins(frames):
        return twins
    return describe_irregularity(np.array([frame.position for frame in frames]), slice_normal(orientation))


def _describe_twins(frames: Sequence[Frame]) -> str:
    """Slices that were found twice, such as in a copy of a folder."""
    known: dict[tuple[str, int], Frame] = {}
    twins = []
    for frame in frames:
        other = known.setdefault(frame.instance, frame)
        if other is not frame and frame.instance[0]:
            twins.append((other.path, frame.path))
    if not twins:
        return ""
    one, other_path = twins[0]
    come = "slice comes" if len(twins) == 1 else "slices come"
    return f"{len(twins)} {come} twice: {one} and {other_path} have the same SOPInstanceUID"


def describe_unreadable(headers: Sequence[Header], unreadable: Sequence[tuple[Path, str]]) -> str:
    """Unreadable files in the folders of a series: they may be its first or last slices."""
    folders = {header.path.parent for header in headers}
    beside = [(path, reason) for path, reason in unreadable if path.parent in folders]
    if not beside:
        return ""
    path, reason = beside[0]
    count = pluralize(len(beside), "file")
    return f"{count} beside it cannot be read and may be its slices ({path.name} {reason}); replace or remove them"
