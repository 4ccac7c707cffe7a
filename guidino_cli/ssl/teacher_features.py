"""Disk table of a frozen teacher's tokens: half-precision rows, each computed once."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from guidino_cli.errors import ResourceError


class TeacherFeatureTable:
    """A table of rows (N, D) in float16 that survives a killed run.

    Its folder is named after a hash of everything the rows depend on, so rows of other images, views or weights are
    never reused. A row is valid once its own flag is set, after the row is on disk: an unfinished row is computed
    again.

    Args:
        parent: Folder of all tables; created if missing.
        key: Everything a row depends on, as JSON: weights, size and kind of the views, seed, image files.
        rows: Number of rows.
        tokens: N.
        channels: D.

    Raises:
        ResourceError: The table cannot be written, or does not fit on the disk.
    """

    def __init__(self, parent: Path, *, key: dict, rows: int, tokens: int, channels: int) -> None:
        text = json.dumps({**key, "shape": [rows, tokens, channels]}, sort_keys=True, indent=2)
        self.folder = parent / f"teacher-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._rows = _open_array(self.folder / "rows.npy", (rows, tokens, channels), np.float16)
            self._ready = _open_array(self.folder / "ready.npy", (rows,), np.uint8)
            (self.folder / "key.json").write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            gigabytes = rows * tokens * channels * 2 / 1e9
            reason = error.strerror or str(error)
            raise ResourceError(
                f"{self.folder}: cannot store {gigabytes:.1f} GB of teacher features ({reason}); "
                "free some space, or lower distill.views"
            ) from error

    def get_or_compute(self, rows: Sequence[int], compute: Callable[[list[int]], Tensor]) -> Tensor:
        """Rows (B, N, D) in single precision; missing ones are computed and stored.

        Args:
            rows: Distinct row numbers.
            compute: Takes positions in `rows` and returns their features (b, N, D). The result is rounded to half
                precision before use, so that a row has the same values the first time and later.
        """
        missing = [position for position, row in enumerate(rows) if not self._ready[row]]
        if missing:
            self._store([rows[position] for position in missing], compute(missing).half().cpu().numpy())
        return torch.from_numpy(self._rows[list(rows)].astype(np.float32))

    @property
    def count(self) -> int:
        """Number of stored rows."""
        return int(np.count_nonzero(self._ready))

    def _store(self, rows: list[int], values: np.ndarray) -> None:
        self._rows[rows] = values
        self._rows.flush()
        self._ready[rows] = 1
        self._ready.flush()


def _open_array(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """A memory-mapped array, created with zeros the first time; whole or not at all."""
    if not path.is_file():
        temporary = path.with_suffix(".tmp")
        # Sparse: nothing but its length is written before the first row.
        np.lib.format.open_memmap(temporary, mode="w+", dtype=dtype, shape=shape).flush()
        temporary.replace(path)
    return np.lib.format.open_memmap(path, mode="r+")
