"""Time reading random slices and patches of a volume, stored by `prepare` and as .nii.gz; prints JSON.

    python benchmarks/volumes.py [--folder FOLDER] [--slices 1000] [--files 20]

The volume has 128 x 512 x 512 voxels of int16: noise over smooth shapes, since nothing compresses to nothing. Its
gzip level is 1, as `guidino predict` writes; level 6 reads as fast. A slice of a .nii.gz is read as nibabel does
without indexed_gzip: all that lies before it is unpacked. Each read opens the file anew, as a training sample does.
Times are CPU seconds of the process; files were written just before, so they lie in the page cache.
"""

import argparse
import gzip
import json
import os
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy.ndimage import zoom

from guidino_cli.data.volumes.stored import BLOSC2_SUFFIX, NUMPY_SUFFIX, open_array, save_array

SHAPE, PATCH = (128, 512, 512), (64, 128, 128)


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write 100 MB; default: a temporary folder")
    parser.add_argument("--slices", type=int, default=1000, help="slices read of stored volumes")
    parser.add_argument("--files", type=int, default=20, help="slices read of the .nii.gz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder), slices=options.slices, files=options.files), indent=2))


def measure(folder: Path, *, slices: int, files: int) -> dict[str, Any]:
    """CPU seconds per slice and per patch of each way, and how many times longer than a memory map it takes."""
    generator = np.random.default_rng(0)
    volume = make_volume(generator)
    packed = folder / "volume.nii.gz"
    with gzip.open(packed, "wb", compresslevel=1) as file:
        nibabel.Nifti1Image(volume.T, np.eye(4)).to_stream(file)
    ways: dict[str, tuple[Path, int]] = {"npy": (folder / f"volume{NUMPY_SUFFIX}", slices)}
    if find_spec("blosc2"):
        ways["blosc2"] = (folder / f"volume{BLOSC2_SUFFIX}", slices)
    for path, _ in ways.values():
        save_array(path, volume[None])
    ways["nii.gz"] = (packed, files)
    rows = {}
    for name, (path, count) in ways.items():
        read = read_packed if name == "nii.gz" else read_stored
        rows[name] = {
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "slices": count,
            "cpu_s_per_slice": per_call(lambda read=read, path=path: read(path, random_slice(generator)), count),
            "cpu_s_per_patch": per_call(lambda read=read, path=path: read(path, random_patch(generator)), count),
        }
    base = rows["npy"]["cpu_s_per_slice"]
    for row in rows.values():
        row["times_npy"] = round(row["cpu_s_per_slice"] / base, 1)
    return {"shape": SHAPE, "patch": PATCH, "load_average": os.getloadavg(), "ways": rows}


def make_volume(generator: np.random.Generator) -> np.ndarray:
    """(Z, Y, X) int16: smooth shapes between -1000 and 1000, with noise of 20."""
    smooth = zoom(generator.normal(0, 400, (8, 16, 16)), (16, 32, 32), order=1)
    return np.asarray((smooth + generator.normal(0, 20, SHAPE)).clip(-1000, 2000).astype(np.int16))


Region = tuple[slice, slice, slice]


def random_slice(generator: np.random.Generator) -> Region:
    """One axial slice."""
    z = int(generator.integers(SHAPE[0]))
    return slice(z, z + 1), slice(None), slice(None)


def random_patch(generator: np.random.Generator) -> Region:
    """A patch anywhere."""
    starts = [int(generator.integers(side - own + 1)) for side, own in zip(SHAPE, PATCH, strict=True)]
    z, y, x = (slice(start, start + own) for start, own in zip(starts, PATCH, strict=True))
    return z, y, x


def read_stored(path: Path, region: Region) -> np.ndarray:
    """A region as float32, as a sample needs it."""
    return np.asarray(open_array(path)[(0, *region)], dtype=np.float32)


def read_packed(path: Path, region: Region) -> np.ndarray:
    """The same of a NIfTI file, whose axes are X, Y, Z."""
    image: Any = nibabel.load(path, keep_file_open=False)
    return np.asarray(image.dataobj[region[::-1]], dtype=np.float32).T


def per_call(read: Callable[[], object], count: int) -> float:
    """CPU seconds of one call, the mean of `count`."""
    started = time.process_time()
    for _ in range(count):
        read()
    return float(f"{(time.process_time() - started) / count:.3g}")


if __name__ == "__main__":
    main()
