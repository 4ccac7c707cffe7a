"""Stack the tiles of examples/data to volumes again, in nnU-Net's raw layout: `python examples/make_volumes.py OUT`.

The tiles were cut from slices of one fluorescence volume (see examples/data/README.md). Training tiles are of
consecutive slices, those of validation and test of every other one, so their voxels are twice as long. The size of a
voxel is not known: one pixel is written as 1 mm, and so is the distance of two slices of the original.
"""

import json
import sys
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

DATA = Path(__file__).parent / "data"
PARTS = {"bottom_left": "Tr", "bottom_right": "Tr", "top_left": "Tr", "top_right": "Ts"}
VALIDATION = ["top_left"]


def stack(folder: str, part: str) -> nibabel.Nifti1Image:
    """The tiles of a part of the field as a volume (X, Y, Z) uint8 with LPS axes."""
    paths = sorted((DATA / folder).glob(f"{part}_slice_*.png"))
    numbers = [int(path.stem[-2:]) for path in paths]
    slices = np.stack([np.asarray(Image.open(path).convert("L")) for path in paths])
    values = slices // 255 if folder == "masks" else slices
    affine = np.diag([-1.0, -1.0, float(numbers[1] - numbers[0]), 1.0])
    volume = nibabel.Nifti1Image(values.transpose(2, 1, 0), affine)
    volume.header.set_xyzt_units("mm")
    return volume


def main(out: Path) -> None:
    """Write dataset.json, splits_final.json and the folders of images and labels."""
    for part, kind in PARTS.items():
        for folder, name in (("images", f"images{kind}/{part}_0000"), ("masks", f"labels{kind}/{part}")):
            path = out / f"{name}.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(stack(folder, part), path)
    training = [part for part, kind in PARTS.items() if kind == "Tr" and part not in VALIDATION]
    description = {
        "channel_names": {"0": "fluorescence"},
        "labels": {"background": 0, "nucleus": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (out / "dataset.json").write_text(json.dumps(description, indent=2) + "\n")
    (out / "splits_final.json").write_text(json.dumps([{"train": training, "val": VALIDATION}]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
