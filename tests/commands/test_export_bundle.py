"""`guidino export --monai-bundle`: MONAI checks the bundle and makes the recorded masks with it, without guidino."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands.card_licences import find_licences
from guidino_cli.config import RunConfig

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
TENSOR = {
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in ("type", "format", "dtype")},
        "num_channels": {"type": "integer"},
        "spatial_shape": {"type": "array", "items": {"type": ["string", "integer"]}},
        "value_range": {"type": "array", "items": {"type": "number"}},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object"},
    },
    "required": ["type", "format", "num_channels", "spatial_shape", "dtype", "value_range"],
}
TENSORS = {"type": "object", "patternProperties": {"^.+$": TENSOR}, "minProperties": 1}
WORDS = (
    "schema",
    "version",
    "monai_version",
    "pytorch_version",
    "numpy_version",
    "task",
    "description",
    "authors",
    "copyright",
)
# What MONAI's schema of 2024-07-25 asks for: its required keys and their types, compared with the published file
# (project-monai.github.io/schema/meta_schema_20240725.json), which states no licence and is therefore not kept here.
SCHEMA = {
    "$schema": "https://json-schema.org/draft/2019-09/schema",
    "type": "object",
    "properties": {
        **{name: {"type": "string"} for name in (*WORDS, "intended_use")},
        **{name: {"type": "object"} for name in ("changelog", "required_packages_version")},
        "network_data_format": {
            "type": "object",
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
            "required": ["inputs", "outputs"],
        },
    },
    "required": [*WORDS, "required_packages_version", "network_data_format"],
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    out = tmp_path_factory.mktemp("export") / "nuclei"
    guidino_once("export", RECORDED / "guided", "-o", out, "--monai-bundle")
    return out


def call_monai(bundle: Path, function: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A function of monai.bundle in the bundle's folder, in a process that has no guidino."""
    pytest.importorskip("monai")
    code = (
        "import sys; sys.path.insert(0, ''); sys.modules['guidino_cli'] = None; import monai.bundle; "
        f"monai.bundle.{function}(**dict(word.split('=', 1) for word in sys.argv[1:]))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, cwd=bundle, env=environment, capture_output=True, text=True)


@pytest.mark.slow
def test_monai_makes_the_recorded_masks_without_guidino(bundle: Path, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for image in sorted((RECORDED / "src" / "images").iterdir())[:2]:
        shutil.copy(image, images)
    words = ("config_file=configs/inference.json", f"dataset_dir={images}", f"output_dir={tmp_path / 'masks'}")
    done = call_monai(bundle, "run", *words)
    assert done.returncode == 0, done.stderr
    masks = sorted((tmp_path / "masks").iterdir())
    assert len(masks) == 2
    for mask in masks:
        found, expected = (np.asarray(Image.open(path)) for path in (mask, RECORDED / "expected" / mask.name))
        assert np.array_equal(found, expected)
        assert len(np.unique(found)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("lost", [None, "task", "network_data_format"])
def test_monai_verifies_the_metadata(lost: str | None, bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("jsonschema")
    # A schema that is there is not downloaded.
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    (tmp_path / "metadata.json").write_text(json.dumps({key: metadata[key] for key in metadata if key != lost}))
    words = (f"meta_file={tmp_path / 'metadata.json'}", f"filepath={tmp_path / 'schema.json'}")
    assert (call_monai(bundle, "verify_metadata", *words).returncode == 0) == (lost is None)


@pytest.mark.parametrize(
    ("names", "masks", "reason"),
    [
        (["a.png", "b.jpg", "b.png"], "masks", "several images are named b"),
        (["a.png"], "images", "holds the images"),
    ],
)
def test_no_mask_replaces_another_or_an_image(
    names: list[str], masks: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples, package = Path(__file__).parents[2] / "examples", tmp_path / "scripts_of_a_bundle"
    package.mkdir()
    shutil.copy(examples / "monai_bundle.py", package / "segment.py")
    shutil.copy(examples / "onnx_predict.py", package / "steps.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("scripts_of_a_bundle", "scripts_of_a_bundle.segment", "scripts_of_a_bundle.steps"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    segment = importlib.import_module("scripts_of_a_bundle.segment")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "model.pt2.json").write_text("{}")
    (tmp_path / "images").mkdir()
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / "images" / name)
    with pytest.raises(SystemExit, match=reason):
        segment.segment_folder(None, str(tmp_path), str(tmp_path / "images"), str(tmp_path / masks))
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == names
    assert not (tmp_path / "masks").exists()


@pytest.mark.slow
def test_monai_finds_the_inputs_and_outputs_that_the_metadata_states(bundle: Path, tmp_path: Path) -> None:
    words = ("net_id=network_def", "meta_file=configs/metadata.json", "config_file=configs/inference.json")
    done = call_monai(bundle, "verify_net_in_out", *words)
    assert done.returncode == 0, done.stderr
    metadata = json.loads((bundle / "configs" / "metadata.json").read_text())
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 5
    (tmp_path / "other.json").write_text(json.dumps(metadata))
    wrong = ("net_id=network_def", f"meta_file={tmp_path / 'other.json'}", "config_file=configs/inference.json")
    assert call_monai(bundle, "verify_net_in_out", *wrong).returncode != 0


def test_the_folder_has_the_files_of_the_specification_and_the_card(bundle: Path) -> None:
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert {"configs/metadata.json", "models/model.pt", "docs/README.md", "LICENSE"} <= files
    card = (bundle / "docs" / "README.md").read_text()
    assert "python -m monai.bundle run" in card
    assert "The weights here derive from guidino-tiny" in card
    channels = json.loads((bundle / "configs" / "metadata.json").read_text())["network_data_format"]["outputs"]["pred"]
    assert channels["channel_def"] == {"0": "background", "1": "nucleus"}


def test_a_frozen_dinov3_inside_may_be_passed_on_only_under_its_licence() -> None:
    facts = {"backbone": {"weights": "facebook/dinov3-vits16-pretrain-lvd1689m", "licence": "DINOv3 licence"}}
    (inside,) = find_licences(RunConfig(), facts, holds_backbone=True)
    (outside,) = find_licences(RunConfig(), facts, holds_backbone=False)
    assert inside.is_restrictive
    assert "together with a copy of it" in inside.text
    assert not outside.is_restrictive


def test_calls_that_cannot_be_meant_are_refused(guidino: Callable[..., Any], bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    reasons: dict[tuple[Any, ...], str] = {
        ("-o", tmp_path / "a.onnx"): "a bundle is a folder",
        ("-o", tmp_path / "a", "--batch", 2): "one window at a time",
        ("-o", bundle): "add --overwrite",
        ("-o", tmp_path / "mine", "--overwrite"): "holds files that guidino did not write",
    }
    for arguments, reason in reasons.items():
        outcome = guidino("export", RECORDED / "guided", "--monai-bundle", *arguments)
        assert outcome.code == 2
        assert reason in outcome.stderr
    assert (tmp_path / "mine" / "thesis.tex").exists()
