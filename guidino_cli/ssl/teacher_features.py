"""What a frozen teacher says of views that come again: half-precision rows on disk, each computed once."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guidino_cli.errors import ResourceError

_READY = "ready.npy"


class TeacherFeatureTable:
    """A table of rows (N, D) in float16 that outlives a run that is killed.

    It lies in a folder whose name is a hash of what its rows depend on, so rows made for other images, views or
    weights are never taken for these. A row counts once its own flag is set, after the row is on disk: half a row is
    computed again.

    Args:
        place: Where tables are kept; made if need be.
        key: Everything a row depends on, as JSON: weights, size and kind of the views, seed, image files.
        rows: How many there are.
        tokens: N of a row.
        channels: D.

    Raises:
        ResourceError: The table cannot be written, or the disk is too small for it.
    """

    def __init__(self, place: Path, *, key: dict, rows: int, tokens: int, channels: int) -> None:
        text = json.dumps({**key, "shape": [rows, tokens, channels]}, sort_keys=True, indent=2)
        self.folder = place / f"teacher-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._table = _opened(self.folder / "rows.npy", (rows, tokens, channels), np.float16)
            self._ready = _opened(self.folder / _READY, (rows,), np.uint8)
            (self.folder / "key.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            gigabytes = rows * tokens * channels * 2 / 1e9
            reason = error.strerror or str(error)
            raise ResourceError(
                f"{self.folder}: no room for {gigabytes:.1f} GB of the teacher's features ({reason}); "
                "free some space, or show fewer views an image"
            ) from error

    def recall(self, rows: Sequence[int], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Rows (B, N, D) in single precision, those that are missing computed and kept.

        Args:
            rows: Numbers of rows, each once.
            compute: Given places in `rows`, the features (b, N, D) of those. What it gives is rounded to half precision
                before it is used, so that a row is the same the first time and every other time.
        """
        missing = [place for place, row in enumerate(rows) if not self._ready[row]]
        if missing:
            self._keep([rows[place] for place in missing], compute(missing).half().cpu().numpy())
        return torch.from_numpy(self._table[list(rows)].astype(np.float32))

    @property
    def count(self) -> int:
        """How many rows are there already."""
        return int(np.count_nonzero(self._ready))

    def _keep(self, rows: list[int], values: np.ndarray) -> None:
        self._table[rows] = values
        self._table.flush()
        self._ready[rows] = 1
        self._ready.flush()


def _opened(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """An array in a file, made of zeros the first time; whole or not at all."""
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        # Sparse: nothing but its length is written before the first row.
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
        temporary.replace(path)
    return np.lib.format.open_memmap(path, mode="r+")
