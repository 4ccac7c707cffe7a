"""Pictures that RGB cannot hold: stored with all channels and bits."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from guidino_cli.cli import app
from guidino_cli.data.manifest import load_manifest

_RANDOM = np.random.default_rng(0)


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def _labels() -> np.ndarray:
    labels = np.zeros((12, 16), np.uint8)
    labels[2:6, 3:9] = 255
    return labels


def _deep(count: int = 1) -> np.ndarray:
    return _RANDOM.integers(0, 65536, (count, 12, 16)).astype(np.uint16)


def _prepare(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["prepare", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_five_channel_files_a_case_keep_their_numbers_and_names(tmp_path: Path) -> None:
    source, channels = tmp_path / "raw", {}
    for name in ("a", "b", "c", "d"):
        channels[name] = _deep(5)
        for number, values in enumerate(channels[name]):
            _write(source / "imagesTr" / f"{name}_{number:04}.png", values)
        _write(source / "labelsTr" / f"{name}.png", _labels() // 255)
    names = ["DAPI", "GFP", "RFP", "Cy5", "BF"]
    (source / "dataset.json").write_text(
        json.dumps({"channel_names": dict(enumerate(names)), "labels": {"background": 0, "cell": 1}})
    )
    _prepare(source, "-o", tmp_path / "data", "--split", "50/25/25")
    manifest = load_manifest(tmp_path / "data")
    assert list(manifest.channels) == names
    assert manifest.classes == ["background", "cell"]
    assert manifest.is_pictures
    for case in manifest.cases:
        assert case.volume is not None
        assert np.array_equal(np.load(case.volume.image)[:, 0], channels[case.id])
        assert case.mask == tmp_path / "data" / "masks" / f"{case.id}.png"
        assert np.array_equal(np.asarray(Image.open(case.mask)), _labels() // 255)
    assert (tmp_path / "data" / "contact_sheet.png").is_file()


@pytest.fixture
def deep_pictures(tmp_path: Path) -> Path:
    for number in range(6):
        _write(tmp_path / "raw" / "images" / f"{number}.png", _deep()[0])
        _write(tmp_path / "raw" / "masks" / f"{number}.png", _labels())
    return tmp_path / "raw"


def test_sixteen_bits_are_kept_on_request_only(tmp_path: Path, deep_pictures: Path) -> None:
    _prepare(deep_pictures, "-o", tmp_path / "rgb")
    assert not load_manifest(tmp_path / "rgb").is_volumes
    _prepare(deep_pictures, "-o", tmp_path / "deep", "--store", "npy")
    manifest = load_manifest(tmp_path / "deep")
    case = manifest.cases[0]
    assert case.volume is not None
    assert np.array_equal(np.load(case.volume.image)[0, 0], np.asarray(Image.open(case.image)))
    assert np.array_equal(np.load(case.volume.labels)[0], _labels() // 255)  # type: ignore[arg-type]


def test_pictures_with_another_number_of_channels_are_named(tmp_path: Path, deep_pictures: Path) -> None:
    _write(deep_pictures / "images" / "3.png", _RANDOM.integers(0, 256, (12, 16, 3)).astype(np.uint8))
    result = CliRunner().invoke(app, ["prepare", str(deep_pictures), "-o", str(tmp_path / "data"), "--store", "npy"])
    assert (
        "3.png: has 3 channels, expected 1, as all pictures of a data set have" in str(result.exception) + result.output
    )


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--spacing", "1,1,1"], "--spacing: is for volumes, but these are images; leave it out"),
        (["--copy", "--store", "npy"], "--copy: is for images read as RGB, but the numbers of these are kept"),
    ],
)
def test_options_without_meaning_are_refused(
    tmp_path: Path, deep_pictures: Path, option: list[str], message: str
) -> None:
    result = CliRunner().invoke(app, ["prepare", str(deep_pictures), "-o", str(tmp_path / "data"), *option])
    assert message in str(result.exception) + result.output
