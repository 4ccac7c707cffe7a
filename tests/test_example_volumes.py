"""The volumes and settings of examples/volume.sh."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from PIL import Image

from guidino_cli.config import load_preset
from guidino_cli.preparation.options import VolumeConfig
from guidino_cli.preparation.volumes.nnunet import detect_nnunet_volumes

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_tiles_are_stacked_to_volumes_in_the_layout_of_nnunet(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(EXAMPLES / "make_volumes.py"), str(tmp_path)], check=True)
    volume: Any = nibabel.load(tmp_path / "imagesTs" / "top_right_0000.nii.gz")
    assert volume.shape == (115, 115, 11)
    assert nibabel.aff2axcodes(volume.affine) == ("L", "P", "S")
    assert volume.header.get_zooms() == (1, 1, 2)
    # Slices 23, 25, ..., 43: the fifth is 33. Rows and columns of the picture are Y and X.
    tile = np.asarray(Image.open(EXAMPLES / "data" / "images" / "top_right_slice_33.png").convert("L"))
    np.testing.assert_array_equal(np.asarray(volume.dataobj)[:, :, 5].T, tile)
    mask: Any = nibabel.load(tmp_path / "labelsTr" / "bottom_left.nii.gz")
    assert mask.shape == (128, 128, 22)
    assert np.unique(np.asarray(mask.dataobj)).tolist() == [0, 1]
    found = detect_nnunet_volumes(tmp_path, VolumeConfig())
    assert found is not None
    assert {pair.id: pair.split for pair in found.pairs}["top_right"] == "test"
    assert json.loads((tmp_path / "splits_final.json").read_text())[0]["val"] == ["top_left"]


def test_the_preset_of_the_example_is_valid() -> None:
    config = load_preset(str(EXAMPLES / "volume-3d.yaml"))
    assert config.data.dims == 3
    assert config.predict.mirror == ["x", "y"]
