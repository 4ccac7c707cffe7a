"""What is wrong, odd or worth knowing about each pair? All of it is collected before anybody is told."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from guidino_cli.preparation.examine import ImageFacts, PackedMask
from guidino_cli.preparation.found import Found, Pair
from guidino_cli.progress import counted
from guidino_cli.types import width_by_height

_SHOWN = 10


@dataclass(frozen=True)
class Finding:
    """One remark.

    Attributes:
        kind: "error" stops, "bad" stops unless bad cases are to be skipped, "warning" and "note" are only told.
        text: One sentence with the files it is about.
        case: Id of the bad case, or None if the remark is about several.
    """

    kind: Literal["error", "bad", "warning", "note"]
    text: str
    case: str | None = None


def check_names(found: Found, *, allow_unpaired: bool) -> list[Finding]:
    """Files without a partner, files that cannot be told apart, ids that cannot be file names."""
    kind: Literal["error", "warning"] = "warning" if allow_unpaired else "error"
    hint = "left out" if allow_unpaired else "add the missing files, or leave these out with --allow-unpaired"
    findings = [Finding("note", note) for note in found.notes]
    if found.images:
        findings.append(
            Finding(kind, f"{counted(len(found.images), 'image')} without a mask ({some(found.images)}): {hint}")
        )
    if found.masks:
        findings.append(
            Finding(kind, f"{counted(len(found.masks), 'mask')} without an image ({some(found.masks)}): {hint}")
        )
    for files in found.collisions:
        findings.append(
            Finding("error", f"{some(files)} have one name but are several files: remove or rename all but one")
        )
    findings += _check_ids(found.pairs)
    return findings


def check_pair(pair: Pair, images: Sequence[ImageFacts], masks: Sequence[PackedMask]) -> list[Finding]:
    """Size of image and masks, more than three channels, a flat image."""
    size_hw = images[0].size_hw
    size = width_by_height(size_hw)
    findings = []
    for path, facts in zip(pair.images[1:], images[1:], strict=True):
        if facts.size_hw != size_hw:
            findings.append(_bad(pair, f"{path}: is {width_by_height(facts.size_hw)}, its first channel {size}"))
    if len(images) > 3:
        findings.append(_bad(pair, f"{pair.images[0]}: {len(images)} channel files, expected 1 to 3"))
    for path, mask in zip(pair.masks, masks, strict=True):
        if mask.shape[:2] != size_hw:
            turned = " (turned by 90 degrees?)" if mask.shape[:2] == size_hw[::-1] else ""
            findings.append(_bad(pair, f"{path}: is {width_by_height(mask.shape)}, its image {size}{turned}"))
    return findings


def describe(facts: dict[str, ImageFacts]) -> list[Finding]:
    """What people should know of a data set's images: depth, alpha, flat ones.

    Args:
        facts: Case id -> facts of its first image.
    """
    deep = [case for case, item in facts.items() if item.is_deep]
    alpha = [case for case, item in facts.items() if item.has_alpha]
    flat = [case for case, item in facts.items() if item.is_flat]
    remarks = [
        Finding(
            "note",
            f"{counted(len(deep), 'image')} of more than 8 bits, whose percentiles become black and white: "
            f"{some(deep)}",
        ),
        Finding("note", f"{counted(len(alpha), 'image')} with an alpha channel, which is dropped: {some(alpha)}"),
        Finding("warning", f"{counted(len(flat), 'image')} of one colour throughout: {some(flat)}"),
    ]
    return [remark for remark, cases in zip(remarks, (deep, alpha, flat), strict=True) if cases]


def empty_and_full(pixels: dict[str, np.ndarray]) -> list[Finding]:
    """Masks without foreground, or without background.

    Args:
        pixels: Case id -> (K,) pixels of each class.
    """
    empty = [case for case, counts in pixels.items() if counts[1:].sum() == 0]
    full = [case for case, counts in pixels.items() if counts[0] == 0]
    if pixels and len(empty) == len(pixels):
        return [Finding("warning", "every mask is empty: there is nothing to learn")]
    findings = [Finding("note", f"{counted(len(empty), 'empty mask')}: {some(empty)}")] if empty else []
    if full:
        findings.append(Finding("warning", f"{counted(len(full), 'mask')} without any background: {some(full)}"))
    return findings


def some(items: Iterable[object]) -> str:
    """Up to ten items in words; of files, the name with its folder."""
    words = [f"{item.parent.name}/{item.name}" if isinstance(item, Path) else str(item) for item in items]
    return ", ".join(words[:_SHOWN]) + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


def _check_ids(pairs: Sequence[Pair]) -> list[Finding]:
    findings = []
    named: dict[str, list[str]] = {}
    for pair in pairs:
        named.setdefault(pair.id.lower(), []).append(pair.id)
        if not pair.id or pair.id.startswith(".") or set(pair.id) & set('/\\:*?"<>|'):
            findings.append(Finding("error", f"the case id '{pair.id}' cannot be a file name: rename it"))
    for ids in named.values():
        if len(ids) > 1:
            findings.append(
                Finding("error", f"{len(ids)} cases share the id {' / '.join(sorted(set(ids)))}: rename them")
            )
    return findings


def _bad(pair: Pair, text: str) -> Finding:
    return Finding("bad", text, pair.id)
