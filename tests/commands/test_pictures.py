"""Pictures with five channels of 16 bits: prepared, trained on, predicted and scored."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from guidino_cli.cli import app

_TINY = """
model: {segmenter: {name: unet, options: {width: 4}}}
data: {image_size: 32}
train: {epochs: 1, steps: 2, batch_size: 2}
"""


def _run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random, source = np.random.default_rng(0), folder / "raw"
    for part in ("imagesTr", "labelsTr"):
        (source / part).mkdir(parents=True)
    for name in ("a", "b", "c", "d"):
        labels = np.zeros((24, 40), np.uint8)
        labels[4:12, 6:20] = 1
        Image.fromarray(labels).save(source / "labelsTr" / f"{name}.png")
        for number in range(5):
            values = (20000 * labels.astype(int) + random.integers(0, 9000, labels.shape)).astype(np.uint16)
            Image.fromarray(values).save(source / "imagesTr" / f"{name}_{number:04}.png")
    names = {str(number): f"stain{number}" for number in range(5)}
    description = {"channel_names": names, "labels": {"background": 0, "cell": 1}}
    (source / "dataset.json").write_text(json.dumps(description))
    (folder / "tiny.yaml").write_text(_TINY)
    _run("prepare", source, "-o", folder / "data", "--split", "50/25/25")
    _run("train", "--preset", folder / "tiny.yaml", "--data", folder / "data", "-o", folder / "run", "--device", "cpu")
    return folder


def test_a_network_sees_all_channels(trained: Path) -> None:
    facts = json.loads((trained / "run" / "run.json").read_text())
    assert facts["volumes"]["channels"] == [f"stain{number}" for number in range(5)]
    assert facts["volumes"]["is_picture"] is True


def test_masks_are_png_files_of_the_size_of_the_picture(trained: Path) -> None:
    _run("predict", trained / "run", trained / "data", "-o", trained / "masks", "--split", "test")
    (mask,) = (trained / "masks").glob("*.png")
    assert Image.open(mask).size == (40, 24)
    result = _run("evaluate", trained / "masks", trained / "data", "--split", "test", "-o", trained / "scores")
    assert result.exit_code == 0


def test_channel_files_are_put_together_by_their_numbers(trained: Path) -> None:
    _run("predict", trained / "run", trained / "raw" / "imagesTr", "-o", trained / "all")
    assert sorted(path.name for path in (trained / "all").glob("*.png")) == ["a.png", "b.png", "c.png", "d.png"]


def test_a_missing_channel_is_named(trained: Path, tmp_path: Path) -> None:
    first = (trained / "raw" / "imagesTr" / "a_0000.png").read_bytes()
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "a_0000.png").write_bytes(first)
    result = CliRunner().invoke(
        app, ["predict", str(trained / "run"), str(tmp_path / "few"), "-o", str(tmp_path / "masks")]
    )
    found = str(result.exception) + result.output
    assert "the case has the files _0000, but the run was trained on _0000 (stain0), _0001 (stain1)" in found


def test_a_volume_is_refused(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"")
    result = CliRunner().invoke(
        app, ["predict", str(trained / "run"), str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "masks")]
    )
    assert "a.nii.gz: is a volume, but the run was trained on images" in str(result.exception) + result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "RUN", "DATA", "--overlay"], "--overlay draws pictures of red, green and blue, and volumes"),
        (["visualize-guide", "DATA", "--run", "RUN"], "was trained on pictures with all their channels"),
    ],
)
def test_pictures_of_many_channels_are_not_drawn(trained: Path, tmp_path: Path, words: list[str], message: str) -> None:
    places = {"RUN": str(trained / "run"), "DATA": str(trained / "data")}
    result = CliRunner().invoke(app, [*(places.get(word, word) for word in words), "-o", str(tmp_path / "out")])
    assert message in str(result.exception) + result.output
    assert not (tmp_path / "out").exists()


def test_the_validation_cases_of_a_run_on_pictures_are_drawn(trained: Path) -> None:
    assert Image.open(trained / "run" / "validation.png").size[0] >= 720


def test_patches_of_pictures_are_refused(trained: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["train", "--preset", "volumes-unet3d", "--data", str(trained / "data"), "-o", str(tmp_path / "run")],
    )
    assert "data.dims is 3, but raw holds images, which have one slice: set data.dims=2" in str(result.exception)
