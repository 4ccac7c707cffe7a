"""Maps of the slices of volumes, kept on disk for patches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from volumes_data import make_volumes

from guidino_cli.config import ComponentSettings, DataSettings, ModelSettings
from guidino_cli.data.dataset import SampleIndex
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.volume_dataset import PatchDataset, Sampling
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.engine.feature_cache.volumes import VolumeFeatures, covers_planes
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model
from guidino_cli.models.composed import Model
from guidino_cli.types import VolumeSample

PLANE = (32, 32)


@pytest.fixture(scope="module")
def model() -> Model:
    backbone = ComponentSettings("random", {"hidden_size": 32, "depth": 2, "heads": 2, "layers": [1, 2]})
    settings = ModelSettings(ComponentSettings("light3d", {"widths": [8, 8, 4, 4]}), backbone)
    torch.manual_seed(0)
    return build_model(settings, num_classes=2, in_channels=1, dims=3).eval()


@pytest.fixture
def data(tmp_path: Path) -> PatchDataset:
    manifest = load_manifest(make_volumes(tmp_path, shape=(12, 20, 16)))
    preprocessing = VolumePreprocessing.from_manifest(manifest, DataSettings())
    sampling = Sampling(preprocessing, num_classes=2, batch_size=2, foreground_share=0.33, length=40, seed=0)
    return PatchDataset(manifest.select("train"), sampling, patch_size=(4, *PLANE))


@pytest.fixture
def open_features(tmp_path: Path, model: Model, data: PatchDataset) -> Callable[..., VolumeFeatures]:
    def build(gigabytes: float = 1.0) -> VolumeFeatures:
        folder = tmp_path / "cache" / "abc"
        preprocessing = data.sampling.preprocessing
        return VolumeFeatures(
            folder, model, data.cases, preprocessing=preprocessing, plane_hw=PLANE, gigabytes=gigabytes
        )

    return build


def _maps(features: VolumeFeatures, *samples: VolumeSample, depth: int = 4) -> list[torch.Tensor]:
    cases, firsts = (
        [int(value) for value in values] for values in zip(*(_place(item) for item in samples), strict=True)
    )
    found = features.patches(cases, firsts, depth)
    assert found is not None
    return found


def _place(sample: VolumeSample) -> tuple[int, int]:
    return int(sample.case_index), int(sample.corner[0])


def test_maps_of_a_patch_are_those_of_the_backbone_rounded_to_half(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset, model: Model
) -> None:
    features = open_features()
    samples = [data[SampleIndex(0, position)] for position in range(8)]
    assert len({_place(sample) for sample in samples}) > 4
    found = _maps(features, *samples)
    expected = model.dense_maps(torch.stack([sample.image for sample in samples]))
    assert [level.shape for level in found] == [level.shape for level in expected]
    for level, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(level, wanted, atol=2e-3, rtol=2e-3)
    assert features.written == 3


def test_slices_beyond_the_volume_have_the_maps_of_its_last_one(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset
) -> None:
    features = open_features()
    found = features.patches([0], [0], 15)
    assert found is not None
    for level in found:
        assert level.shape[2] == 15
        for beyond in (12, 13, 14):
            assert torch.equal(level[:, :, beyond], level[:, :, 11])
        assert not torch.equal(level[:, :, 10], level[:, :, 11])


def test_another_run_reads_the_files_and_computes_one_slice_to_compare(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample = data[SampleIndex(0, 0)]
    first = _maps(open_features(), sample)
    seen: list[torch.Size] = []
    original = Model.dense_maps
    monkeypatch.setattr(Model, "dense_maps", lambda self, image: (seen.append(image.shape), original(self, image))[1])
    again = open_features()
    for found, expected in zip(_maps(again, sample), first, strict=True):
        assert torch.equal(found, expected)
    assert again.written == 0
    assert seen == [(1, 1, 1, *PLANE)]


def test_files_of_another_backbone_are_refused(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset
) -> None:
    sample = data[SampleIndex(0, 0)]
    features = open_features()
    _maps(features, sample)
    for path in features.folder.glob("*.npy"):
        np.save(path, np.load(path) + np.float16(1))
    with pytest.raises(ConfigError, match="differ from those of the backbone; delete that folder"):
        _maps(open_features(), sample)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_damaged_and_incomplete_files_are_written_again(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset, damage: str
) -> None:
    sample = data[SampleIndex(0, 0)]
    features = open_features()
    first = _maps(features, sample)
    path = sorted(features.folder.glob("*.npy"))[0]
    path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:100])
    again = open_features()
    assert all(torch.equal(*pair) for pair in zip(_maps(again, sample), first, strict=True))
    assert again.written == 1


def test_nothing_is_written_beyond_the_limit(
    open_features: Callable[..., VolumeFeatures], data: PatchDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    features = open_features(1e-6)
    assert features.patches([0], [0], 4) is None
    assert features.patches([1], [0], 4) is None
    assert not features.folder.exists()
    assert capsys.readouterr().err.count("reached its limit of 1e-06 GB") == 1


def test_other_voxels_have_files_of_their_own(open_features: Callable[..., VolumeFeatures], data: PatchDataset) -> None:
    first = open_features()
    _maps(first, data[SampleIndex(0, 0)])
    volume = data.cases[int(data[SampleIndex(0, 0)].case_index)].volume
    assert volume is not None
    np.save(volume.image, np.load(volume.image) + 1)
    again = open_features()
    _maps(again, data[SampleIndex(0, 0)])
    assert again.written == 1


def test_planes_are_covered_if_no_volume_is_larger(data: PatchDataset) -> None:
    preprocessing = data.sampling.preprocessing
    # The sizes of the volumes are 20 or 21 by 16 to 18.
    assert covers_planes(data.cases, (21, 18), preprocessing)
    assert not covers_planes(data.cases, (20, 18), preprocessing)
    assert not covers_planes(data.cases, (21, 17), preprocessing)
