"""Prediction of volumes by slices, slabs and patches, with networks whose results are known."""

import os
import subprocess
import sys
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from guidino_cli.config import DataSettings, PredictSettings, RunConfig
from guidino_cli.data.volumes.canonical import CANONICAL_CODES, turn, turn_back
from guidino_cli.data.volumes.grid import Grid, SourceVolume, Volume
from guidino_cli.data.volumes.intensities import Intensity
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.engine.prediction.sliding import PatchWindow, Window
from guidino_cli.engine.prediction.volumes import VolumeMember, VolumePredictor
from guidino_cli.errors import ConfigError, DataError
from guidino_cli.types import ChannelStatistics, Geometry, Prediction, VolumeSource

STATISTICS = (ChannelStatistics(0, 10, 5, 3, 5, 0, 10),)
Spacing = tuple[float | None, float | None, float | None]


def _preprocessing(spacing_mm: Spacing = (None, None, None), slice_axis: int = 0) -> VolumePreprocessing:
    """Numbers of the file stay as they are up to 10."""
    window = Intensity("window", ((0.0, 10.0),))
    return VolumePreprocessing(("MR",), spacing_mm, STATISTICS, (window,), slice_axis)


class Levels(torch.nn.Module):
    """Class k where the middle channel is k tenths: the volume's own numbers are its labels."""

    def __init__(self, classes: int = 4, *, slab: int = 1, guide: bool = False) -> None:
        super().__init__()
        self.classes, self.slab, self.has_guide = classes, slab, guide
        self.mean = torch.zeros(1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
        self.seen.append(tuple(image.shape))
        assert image.shape[1] == self.slab
        values = image[:, self.slab // 2 : self.slab // 2 + 1] * 10
        wanted = torch.arange(self.classes).reshape(1, -1, *[1] * (image.ndim - 2))
        return Prediction([-100 * (values - wanted).abs()], image[:, :1] if self.has_guide else None)


class Coordinates(torch.nn.Module):
    """Not symmetric: the larger of the values to the left and to the right along each axis decides."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.zeros(1)

    def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
        difference = sum((image.roll(1, axis) - 0.3 * image for axis in range(2, image.ndim)), torch.zeros(()))
        return Prediction([torch.cat([difference, 1 - image, image.roll(-1, -1)], dim=1)])


def _config(**data: Any) -> RunConfig:
    predict = {key: data.pop(key) for key in ("mirror", "batch_size", "overlap") if key in data}
    return RunConfig(data=DataSettings(**data), predict=PredictSettings(**predict))


def _predictor(model: Any, preprocessing: VolumePreprocessing, **settings: Any) -> VolumePredictor:
    return VolumePredictor.from_config(model, _config(**settings), preprocessing)


def _labels(shape: tuple[int, int, int], classes: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, shape).astype(np.int16)


def _volume(values: np.ndarray, spacing_mm: tuple[float, float, float] = (1, 1, 1)) -> Volume:
    """A volume (C, Z, Y, X) whose source has canonical axes."""
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1])
    geometry = Geometry("volume.nii.gz", values.shape[:0:-1], spacing_mm[::-1], "mm", affine)
    source = SourceVolume(values.T[..., 0], geometry)
    return Volume(values, Grid.of(source, VolumeSource(None)))  # type: ignore[arg-type]


WAYS: dict[str, dict[str, Any]] = {
    "slices": {"dims": 2, "resize": "none", "image_size": 32},
    "windows of slices": {"dims": 2, "resize": "none", "image_size": 8},
    "slabs": {"dims": 2.5, "resize": "none", "image_size": 32},
    "patches": {"dims": 3, "patch_size": [4, 8, 8]},
    "patches larger than the volume": {"dims": 3, "patch_size": [16, 32, 32]},
}


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_a_network_that_returns_the_truth_gives_it_back(way: str, slice_axis: int) -> None:
    labels = _labels((9, 14, 11))
    settings = WAYS[way]
    model = Levels(slab=3 if settings["dims"] == 2.5 else 1)
    predictor = _predictor(model, _preprocessing(slice_axis=slice_axis), **settings)
    found, guide = predictor.segment_stored(labels[None], STATISTICS, (1, 1, 1))[:2]
    assert found.dtype == np.uint8
    assert guide is None
    np.testing.assert_array_equal(found, labels)


def test_slices_share_forward_passes() -> None:
    model = Levels()
    predictor = _predictor(model, _preprocessing(), dims=2, resize="none", image_size=16, batch_size=4, mirror=False)
    predictor.segment_stored(_labels((9, 16, 16))[None], STATISTICS, (1, 1, 1))
    assert model.seen == [(4, 1, 16, 16), (4, 1, 16, 16), (1, 1, 16, 16)]


@pytest.mark.parametrize(("mirror", "passes"), [(True, 8), (False, 1), (["z"], 2), (["x", "y"], 4), ([], 1)])
def test_patches_are_flipped_along_the_named_axes(mirror: Any, passes: int) -> None:
    model = Levels()
    predictor = _predictor(model, _preprocessing(), dims=3, patch_size=[8, 8, 8], mirror=mirror)
    predictor.segment_stored(_labels((8, 8, 8))[None], STATISTICS, (1, 1, 1))
    assert len(model.seen) == passes


def test_a_named_axis_is_that_of_the_volume_not_of_the_network() -> None:
    names = {
        slice_axis: _predictor(Levels(), _preprocessing(slice_axis=slice_axis), dims=3, mirror=["y"]).members[0].window
        for slice_axis in (0, 1, 2)
    }
    # With slices along y the network sees y, z, x; along x it sees x, z, y.
    assert {axis: window.mirror_axes for axis, window in names.items()} == {0: (-2,), 1: (-3,), 2: (-1,)}


@pytest.mark.parametrize(("augment", "passes"), [("nnunet", 8), ("none", 1)])
def test_a_run_trained_without_mirrored_volumes_is_predicted_in_one_pass(augment: str, passes: int) -> None:
    predictor = _predictor(Levels(), _preprocessing(), dims=3, patch_size=[8, 8, 8], augment=augment)
    assert predictor.members[0].window.flips == passes


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_slices_of_a_run_trained_left_to_right_are_flipped_left_to_right_alone(slice_axis: int) -> None:
    predictor = _predictor(Levels(), _preprocessing(slice_axis=slice_axis), dims=2, augment="mirror")
    assert predictor.members[0].window.flip_axes == [(), (-1,)]


def test_mirroring_along_the_slices_of_dims_2_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"predict.mirror names z, but the network sees only x and y at once"):
        _predictor(Levels(), _preprocessing(), dims=2, mirror=["z", "y"])


def test_flipped_patches_are_averaged_after_flipping_back() -> None:
    class First(torch.nn.Module):
        """Logits of class 1 are 8 in the first voxel of all axes, else 0."""

        mean = torch.zeros(1)

        def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
            logits = torch.zeros(1, 2, 2, 2, 2)
            logits[0, 1, 0, 0, 0] = 8.0
            return Prediction([logits])

    predictor = _predictor(First(), _preprocessing(), dims=3, patch_size=[2, 2, 2])
    volume = _volume(np.zeros((1, 2, 2, 2), dtype=np.int16))
    found = predictor.segment(volume, keep_probabilities=True).probabilities
    # Each of the eight corners is once the first: a logit of 8 / 8 everywhere, and 1 / (1 + exp(-1)).
    assert found is not None
    np.testing.assert_allclose(found[1], np.full((2, 2, 2), 0.7311), atol=1e-3)


def test_overlapping_patches_are_mixed_by_gaussians_along_the_first_axis() -> None:
    class Counter(torch.nn.Module):
        """Logit of class 1: 0 in the first patch, 2 in the second, 4 in the third."""

        mean = torch.zeros(1)

        def __init__(self) -> None:
            super().__init__()
            self.calls = 0

        def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
            logits = torch.zeros(1, 2, *image.shape[2:])
            logits[:, 1] = 2.0 * self.calls
            self.calls += 1
            return Prediction([logits])

    settings = {"dims": 3, "patch_size": [8, 4, 4], "mirror": False, "batch_size": 1}
    volume = _volume(np.zeros((1, 16, 4, 4), dtype=np.int16))
    found = _predictor(Counter(), _preprocessing(), **settings).segment(volume, keep_probabilities=True).probabilities
    assert found is not None
    # Patches begin at 0, 4 and 8, and sigma is 1. Slice 5 is 1.5 from the middle of the first, 2.5 from that of the
    # second one.
    first, second = np.exp(-(1.5**2) / 2), np.exp(-(2.5**2) / 2)
    logit = 2 * second / (first + second)
    assert found[1, 5, 1, 1] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    assert found[1, 0, 0, 0] == pytest.approx(0.5)
    assert found[1, 15, 0, 0] == pytest.approx(1 / (1 + np.exp(-4)), abs=1e-3)


def test_the_guide_is_returned_on_the_grid_of_the_labels() -> None:
    labels = _labels((5, 6, 7))
    predictor = _predictor(Levels(guide=True), _preprocessing(slice_axis=2), dims=3, patch_size=[4, 4, 4])
    guide = predictor.segment_stored(labels[None], STATISTICS, (1, 1, 1)).guide
    assert guide is not None
    assert guide.shape == (1, 5, 6, 7)
    np.testing.assert_allclose(guide[0], labels / 10, atol=1e-5)
    assert predictor.segment_stored(labels[None], STATISTICS, (1, 1, 1), keep_guide=False).guide is None


def test_more_than_256_classes_need_16_bits() -> None:
    labels = np.array([[[0, 299]]], dtype=np.int16)

    class Numbered(Levels):
        def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
            logits = torch.zeros(len(image), 300, *image.shape[2:])
            logits[:, 299] = 1
            return Prediction([logits])

    predictor = _predictor(Numbered(), _preprocessing(), dims=2, resize="none", image_size=4, mirror=False)
    result = predictor.segment_stored(labels[None], STATISTICS, (1, 1, 1)).labels
    assert result.dtype == np.uint16
    assert (result == 299).all()


def test_a_volume_stored_on_another_spacing_is_refused() -> None:
    predictor = _predictor(Levels(), _preprocessing((3.0, 1.0, 1.0)), dims=2)
    with pytest.raises(
        DataError, match=r"stored voxels of 1 x 1 x 1 mm \(z, y, x\), but the run was trained on 3 x 1 x 1"
    ):
        predictor.segment_stored(_labels((9, 8, 8))[None], STATISTICS, (1, 1, 1))


@pytest.mark.parametrize("settings", [WAYS["slices"], WAYS["patches"]])
def test_labels_come_back_on_the_grid_of_the_source(settings: dict[str, Any]) -> None:
    labels = np.zeros((12, 24, 24), dtype=np.int16)
    labels[4:8, 6:18, 6:18] = 3
    # A cube is blurred by resampling to half as many voxels and back, but keeps its middle and its surroundings.
    predictor = _predictor(Levels(), _preprocessing((1.0, 2.0, 2.0)), **settings)
    volume = _volume(labels[None], (1.0, 1.0, 1.0))
    found = predictor.segment(volume).labels
    assert found.shape == labels.shape
    assert (found[5:7, 9:15, 9:15] == 3).all()
    assert (found[:, :3] == 0).all()
    assert (found[:3] == 0).all()


def test_slices_of_thick_volumes_are_not_mixed() -> None:
    labels = np.zeros((4, 16, 16), dtype=np.int16)
    labels[2] = 3
    # 8 mm are more than three times 1 mm.
    predictor = _predictor(Levels(), _preprocessing((4.0, 1.0, 1.0)), **WAYS["slices"])
    found = predictor.segment(_volume(labels[None], (8.0, 1.0, 1.0))).labels
    np.testing.assert_array_equal(found, labels)


def test_slices_are_stretched_to_the_network_and_back() -> None:
    labels = np.zeros((2, 20, 30), dtype=np.int16)
    labels[:, 4:16, 6:24] = 2
    model = Levels()
    found = _predictor(model, _preprocessing(), dims=2, image_size=16, mirror=False).segment(_volume(labels[None]))
    assert model.seen == [(2, 1, 16, 16)]
    assert (found.labels[:, 7:13, 10:20] == 2).all()
    assert (found.labels[:, :3] == 0).all()


def _all_axis_orders() -> list[np.ndarray]:
    """The 48 orientations: from the axes of a source to canonical ones, as nibabel has them."""
    return [
        np.array([order, flips]).T.astype(float)
        for order in permutations(range(3))
        for flips in product((1, -1), repeat=3)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_all_48_axis_orders_of_a_volume_give_the_same_labels(way: str) -> None:
    torch.set_num_threads(1)
    values = np.random.default_rng(3).integers(0, 11, (6, 7, 9)).astype(np.int16)
    settings = WAYS[way]
    slab = 3 if settings["dims"] == 2.5 else 1

    class Middle(Coordinates):
        def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
            return super().forward(image[:, slab // 2 : slab // 2 + 1])

    predictor = _predictor(Middle(), _preprocessing((None, 1.3, 1.3)), **settings)
    expected: np.ndarray | None = None
    for orientation in _all_axis_orders():
        own = np.ascontiguousarray(turn_back(values, orientation))
        assert turn(own, orientation).tolist() == values.tolist()
        geometry = Geometry("a", own.shape, (1.0, 1.0, 1.0), "mm", _affine(orientation, own.shape))
        grid = Grid.of(SourceVolume(own, geometry), VolumeSource(None))  # type: ignore[arg-type]
        found = predictor.segment(Volume(turn(own, grid.to_canonical)[None], grid)).labels
        expected = found if expected is None else expected
        np.testing.assert_array_equal(found, expected)
        assert turn_back(found, grid.to_canonical).shape == own.shape
    assert expected is not None
    assert len(np.unique(expected)) == 3


def _affine(orientation: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The affine of a source whose axes lie like this among canonical ones."""
    from nibabel.orientations import inv_ornt_aff

    canonical = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert CANONICAL_CODES == "LPS"
    return np.asarray(canonical @ np.linalg.inv(inv_ornt_aff(orientation, shape)))


def test_an_ensemble_averages_probabilities() -> None:
    class Constant(torch.nn.Module):
        mean = torch.zeros(1)

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

        def forward(self, image: Tensor, *, get_or_compute: Any = None) -> Prediction:
            maps = torch.tensor([1 - self.share, self.share]).log().reshape(1, 2, *[1] * (image.ndim - 2))
            return Prediction([maps.expand(len(image), 2, *image.shape[2:])])

    def member(share: float, spacing: Spacing, **settings: Any) -> VolumeMember:
        return VolumeMember.from_config(Constant(share), _config(**settings), _preprocessing(spacing))  # type: ignore[arg-type]

    one = (1.0, 1.0, 1.0)
    slices, patches = member(0.2, one, **WAYS["slices"]), member(0.9, one, **WAYS["patches"])
    volume = _volume(np.zeros((1, 5, 8, 8), dtype=np.int16))
    result = VolumePredictor([slices, patches]).segment(volume, keep_probabilities=True)
    assert (result.labels == 1).all()
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities[1], 0.55, atol=1e-3)
    other = member(0.9, (1.0, 2.0, 2.0), **WAYS["slices"])
    mixed = VolumePredictor([slices, other])
    assert (mixed.segment(volume).labels == 1).all()
    with pytest.raises(ConfigError, match="different spacings"):
        mixed.segment(volume, keep_probabilities=True)


def test_runs_that_cut_along_different_axes_are_refused_together() -> None:
    members = [VolumeMember.from_config(Levels(), _config(), _preprocessing(slice_axis=axis)) for axis in (0, 1)]  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"along different axes \(z and y, see data.slice_axis\)"):
        VolumePredictor(members)


def test_progress_is_told_in_slices() -> None:
    told: list[tuple[int, int]] = []
    predictor = _predictor(Levels(), _preprocessing(), batch_size=2, **WAYS["slices"])
    predictor.segment(_volume(_labels((5, 8, 8))[None]), on_progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (WAYS["slices"], 10),
        # Rows begin at 0, 4 and 8, columns at 0, 4, 8 and 12.
        (WAYS["windows of slices"], 120),
        # Slices begin at 0, 2, 4 and 6.
        (WAYS["patches"], 48),
    ],
)
def test_windows_are_counted(settings: dict[str, Any], expected: int) -> None:
    member = VolumeMember.from_config(Levels(), _config(**settings), _preprocessing())  # type: ignore[arg-type]
    assert member.count_windows((10, 16, 20)) == expected


def test_the_window_of_a_run_is_that_of_its_settings() -> None:
    def build(**settings: Any) -> Window | PatchWindow:
        return _predictor(Levels(), _preprocessing(), **settings).members[0].window

    assert build(dims=3, image_size=64) == PatchWindow((64, 64, 64))
    assert build(dims=3, patch_size=[8, 16, 24], mirror=False, overlap=0.25) == PatchWindow((8, 16, 24), 0.25, ())
    assert build(dims=2, image_size=64, mirror=["x"]) == Window(64, mirror_axes=(-1,))


_MEASURE = """
import resource
import numpy as np
import torch
from tests_of_volumes import Levels, _predictor, _preprocessing, _volume

torch.set_num_threads(1)
predictor = _predictor(Levels(60), _preprocessing(SPACING), dims=2, resize="none", image_size=96, mirror=False)
volume = _volume(np.zeros((1, 100, 96, 96), dtype=np.int16))
predictor.segment(_volume(np.zeros((1, 2, 96, 96), dtype=np.int16)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
predictor.segment(volume)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="units of ru_maxrss differ")
@pytest.mark.parametrize("spacing", ["(None, None, None)", "(None, 2.0, 2.0)"])
def test_memory_does_not_grow_by_classes_times_voxels(spacing: str, tmp_path: Path) -> None:
    # 60 classes of 100 x 96 x 96 voxels are 221 MB; four slices of them, with the copies of softmax, are a tenth.
    (tmp_path / "tests_of_volumes.py").write_bytes(Path(__file__).read_bytes())
    code = _MEASURE.replace("SPACING", spacing)
    places = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": places, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=os.getcwd()
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 110_000
