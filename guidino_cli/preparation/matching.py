"""Match masks to images by name, never by order."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MASK_WORDS = (
    "masks?|segmentations?|segmented|segs?|labels?|lbl|gts?|groundtruth|ground[-_ ]truth|annotations?|annot|anno|manual"
    "|targets?|ann"
)
_MASK_SUFFIX = re.compile(rf"[-_. ](?:{_MASK_WORDS})(?:[-_ ]?\d{{1,2}})?$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"^(?:{_MASK_WORDS})[-_. ]", re.IGNORECASE)
_IMAGE_SUFFIX = re.compile(r"[-_. ](?:images?|img|original|orig|input|0000)$", re.IGNORECASE)
_IMAGE_PREFIX = re.compile(r"^(?:images?|img|original|orig|input)[-_. ]", re.IGNORECASE)

Key = Callable[[str], str]


@dataclass(frozen=True)
class MatchResult:
    """Images matched with their masks.

    Attributes:
        pairs: (stem of the case, image, masks). Several masks belong to one image only if they are numbered.
        unmatched_images: Images without a mask.
        unmatched_masks: Masks without an image.
        collisions: Groups of files with ambiguous names, such as a.jpg and a.png.
        rule: How the names were compared, in words.
        is_several: Whether the names only fit if an image may have several masks, which the user must ask for.
    """

    pairs: list[tuple[str, Path, tuple[Path, ...]]]
    unmatched_images: list[Path] = field(default_factory=list)
    unmatched_masks: list[Path] = field(default_factory=list)
    collisions: list[tuple[Path, ...]] = field(default_factory=list)
    rule: str = "same name"
    is_several: bool = False


def mask_stem(stem: str) -> str:
    """A mask's stem without `_mask`, `_segmentation`, `_mask_1` and the like."""
    stripped = _MASK_SUFFIX.sub("", stem)
    return stripped if stripped != stem else _MASK_PREFIX.sub("", stem)


def image_stem(stem: str) -> str:
    """An image's stem without `_image`, `_img` and the like."""
    stripped = _IMAGE_SUFFIX.sub("", stem)
    return stripped if stripped != stem else _IMAGE_PREFIX.sub("", stem)


def is_mask_name(stem: str) -> bool:
    """Whether a stem ends (or begins) with a word for masks."""
    return mask_stem(stem) != stem


def match_masks(images: Sequence[Path], masks: Sequence[Path]) -> MatchResult:
    """Match images and masks by the rule that leaves the fewest files unmatched, the strictest of equals.

    The rules, strictest first: same name; ignoring case; `_mask`-like words removed from the masks; also `_image`-like
    words from the images; only the leading number (`21_training`, `21_manual1`). If images remain, and fewer where
    several masks may belong to an image (`21.png`; `21_0.png`, `21_1.png`), that is the rule.
    """
    results = [
        _match_by(images, masks, rule=rule, image_key=image_key, mask_key=mask_key)
        for rule, image_key, mask_key in _RULES
    ]
    best = min(results, key=_count_unmatched)  # min takes the first of equals, hence the strictest.
    several = _match_several(images, masks) if best.unmatched_images and best.unmatched_masks else best
    return several if len(several.unmatched_images) < len(best.unmatched_images) else best


def _match_several(images: Sequence[Path], masks: Sequence[Path]) -> MatchResult:
    """Match each mask to the image whose name it begins with, up to a separator; all of several to an only image."""
    owners = {image_stem(path.stem).lower(): path for path in images} | {path.stem.lower(): path for path in images}
    own: dict[Path, list[Path]] = {path: [] for path in sorted(images)}
    unmatched = []
    for mask in sorted(masks):
        stem = mask.stem.lower()
        ends = [match.start() for match in re.finditer(r"[-_. ]", stem)]
        # The longest name: `a_1_0` belongs to `a_1`, not to `a`.
        found = next((owners[stem[:end]] for end in [len(stem), *reversed(ends)] if stem[:end] in owners), None)
        found = images[0] if found is None and len(images) == 1 < len(masks) else found
        if found is None:
            unmatched.append(mask)
        else:
            own[found].append(mask)
    pairs = [(path.stem, path, tuple(found)) for path, found in own.items() if found]
    rule = "several masks an image, named as it is and further"
    is_several = any(len(found) > 1 for found in own.values())
    return MatchResult(pairs, [path for path, found in own.items() if not found], unmatched, [], rule, is_several)


def pair_single_files(matches: MatchResult) -> MatchResult:
    """Pair an only image with an only mask of another name, where other folders hold an image with several masks."""
    if matches.pairs or len(matches.unmatched_images) != 1 or len(matches.unmatched_masks) != 1:
        return matches
    image, mask = matches.unmatched_images[0], matches.unmatched_masks[0]
    return MatchResult([(image.stem, image, (mask,))], rule=matches.rule)


def _unchanged(stem: str) -> str:
    return stem


def _leading_number(stem: str) -> str:
    number = re.match(r"\d+(?=[-_])", stem)
    return number.group() if number else stem


_RULES: tuple[tuple[str, Key, Key], ...] = (
    ("same name", _unchanged, _unchanged),
    ("same name, upper and lower case alike", str.lower, str.lower),
    ("same name once words like _mask are removed", lambda s: s.lower(), lambda s: mask_stem(s).lower()),
    (
        "same name once words like _image and _mask are removed",
        lambda s: image_stem(s).lower(),
        lambda s: mask_stem(s).lower(),
    ),
    ("same number in front", _leading_number, _leading_number),
)


def _count_unmatched(matches: MatchResult) -> tuple[int, int, int]:
    """Sort key: files without a partner; of equals, a rule that finds collisions is more informative."""
    colliding = sum(len(files) for files in matches.collisions)
    return len(matches.unmatched_images) + len(matches.unmatched_masks) + colliding, -len(matches.pairs), -colliding


def _match_by(
    images: Sequence[Path], masks: Sequence[Path], *, rule: str, image_key: Key, mask_key: Key
) -> MatchResult:
    image_files, mask_files = _group_by_key(images, image_key), _group_by_key(masks, mask_key)
    result = MatchResult([], rule=rule)
    for key, files in sorted(image_files.items()):
        own_masks = mask_files.pop(key, [])
        if len(files) > 1:
            result.collisions.append((*files, *own_masks))
        elif not own_masks:
            result.unmatched_images.append(files[0])
        elif len(own_masks) > 1 and not _are_numbered(own_masks):
            result.collisions.append((files[0], *own_masks))
        else:
            result.pairs.append((files[0].stem, files[0], tuple(own_masks)))
    result.unmatched_masks.extend(path for files in mask_files.values() for path in files)
    return result


def _group_by_key(paths: Iterable[Path], key: Key) -> dict[str, list[Path]]:
    files: dict[str, list[Path]] = {}
    for path in sorted(paths):
        # macOS stores accents decomposed, most others composed.
        files.setdefault(key(unicodedata.normalize("NFC", path.stem)), []).append(path)
    return files


def _are_numbered(masks: Sequence[Path]) -> bool:
    """Whether several masks of one image are parts of it: `a_mask`, `a_mask_1`, but not a.png and a_gt.bmp."""
    stems = {path.stem for path in masks}
    return len(stems) == len(masks) and sum(bool(re.search(r"\d$", stem)) for stem in stems) >= len(masks) - 1
