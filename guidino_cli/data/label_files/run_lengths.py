"""Run lengths of masks: COCO's lists and texts, CVAT's rows, and the bits of Label Studio's brush."""

from collections.abc import Sequence

import numpy as np

from guidino_cli.types import width_by_height


def encode_runs(mask: np.ndarray) -> list[int]:
    """Lengths of the runs of a mask (H, W) down its columns, background first, which may be 0 long."""
    flat = np.concatenate([[False], np.asarray(mask, dtype=bool).ravel(order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def decode_runs(counts: Sequence[int], size_hw: tuple[int, int], *, by_rows: bool = False) -> np.ndarray:
    """Mask (H, W) of booleans from run lengths, background first.

    Args:
        counts: Lengths of the runs.
        size_hw: Height and width.
        by_rows: Runs go along rows, as CVAT's; else down columns, as COCO's.

    Raises:
        ValueError: They do not add up to the size, or one is negative.
    """
    pixels = size_hw[0] * size_hw[1]
    # Before they become an array, which holds numbers up to 64 bits only.
    if counts and (shortest := min(counts)) < 0:
        raise ValueError(f"has a run of {shortest} pixels, expected 0 or more")
    if counts and (longest := max(counts)) > pixels:
        raise ValueError(f"has a run of {longest} pixels, expected {pixels} for {width_by_height(size_hw)} in all")
    # Not of int64, whose sum could wrap around to the right number.
    if (total := sum(counts)) != pixels:
        raise ValueError(f"has runs of {total} pixels, expected {pixels} for {width_by_height(size_hw)}")
    lengths = np.asarray(counts, dtype=np.int64)
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size_hw, order="C" if by_rows else "F")


def text_to_runs(text: str) -> list[int]:
    """Run lengths from the text of a compressed RLE of COCO.

    Each number is 5 bits a character, lowest first, the sixth bit telling that more follow; from the fourth number on
    it is the difference to the number two before.

    Raises:
        ValueError: Another character, or a number that does not end.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64 or shift > 60:
            raise ValueError(f"has {character!r} in a compressed RLE, which is none of its characters")
        value |= (code & 31) << shift
        shift += 5
        if code & 32:
            continue
        if code & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("has a compressed RLE that breaks off")
    return counts


def runs_to_text(counts: Sequence[int]) -> str:
    """Text of a compressed RLE of COCO, see `text_to_runs`."""
    characters = []
    for index, count in enumerate(counts):
        value = count - counts[index - 2] if index > 2 else count
        more = True
        while more:
            code = value & 31
            value >>= 5
            more = value != (-1 if code & 16 else 0)
            characters.append(chr(code + (32 if more else 0) + 48))
    return "".join(characters)


_CHANNELS = 4


def decode_brush(data: bytes, size_hw: tuple[int, int]) -> np.ndarray:
    """Mask (H, W) of booleans from the RLE of a brush in Label Studio: the opacity of an RGBA image.

    The bits hold the number of values (32), the bits a value less one (5), four lengths of counts less one (4 each),
    then runs: one bit whether a value repeats, two bits for the length of the count, the count less one, and the value
    or values.

    Raises:
        ValueError: Another size, or it breaks off.
    """
    reader = _BitReader(data)
    size = size_hw[0] * size_hw[1] * _CHANNELS
    if (found := reader.read(32)) != size:
        raise ValueError(
            f"has a brush of {found} values, expected {size} for {width_by_height(size_hw)} of {_CHANNELS} channels"
        )
    bits = reader.read(5) + 1
    lengths = [reader.read(4) + 1 for _ in range(4)]
    values = np.zeros(size, dtype=np.uint32)
    start = 0
    while start < size:
        repeats = reader.read(1)
        stop = start + 1 + reader.read(lengths[reader.read(2)])
        if stop > size:
            raise ValueError("has a brush of more values than its image")
        if repeats:
            values[start:stop] = reader.read(bits)
        else:
            values[start:stop] = [reader.read(bits) for _ in range(stop - start)]
        start = stop
    return values.reshape(*size_hw, _CHANNELS)[..., -1] > 0


class _BitReader:
    """Numbers of any number of bits, highest first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, bits: int) -> int:
        """The next number of up to 32 bits."""
        first, last = self._at // 8, (self._at + bits + 7) // 8
        if last > len(self._data):
            raise ValueError("has a brush that breaks off")
        number = int.from_bytes(self._data[first:last], "big") >> (8 * last - self._at - bits)
        self._at += bits
        return number & ((1 << bits) - 1)
