"""Build hook: the wheel has a kernel if there is a compiler, and is built without one too."""

import ctypes
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from guidino_cli.metrics import build_kernel

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / build_kernel.SOURCE


def needs_compiler() -> None:
    if not build_kernel._compiler():
        pytest.skip("no C compiler here")


def wheel(place: Path) -> tuple[str, list[str]]:
    """Tag of a wheel of this checkout, and its files."""
    path = Path(next(WheelBuilder(str(ROOT)).build(directory=str(place), versions=["standard"])))
    with zipfile.ZipFile(path) as archive:
        return path.stem.split("-", 2)[2], archive.namelist()


def test_a_wheel_built_with_a_compiler_holds_the_library_for_any_python(tmp_path: Path) -> None:
    needs_compiler()
    tag, files = wheel(tmp_path)
    assert build_kernel.COMPILED in files
    assert tag.startswith("py3-none-")
    assert tag != "py3-none-any"


def test_a_wheel_built_without_a_compiler_holds_the_templates_but_no_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_kernel.shutil, "which", lambda name: None)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CC", raising=False)
    tag, files = wheel(tmp_path)
    assert tag == "py3-none-any"
    assert build_kernel.COMPILED not in files
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "guidino_cli" / "templates").iterdir()}
    assert templates <= set(files)


def test_the_compiled_library_has_the_function(tmp_path: Path) -> None:
    needs_compiler()
    assert build_kernel.compile_kernel(SOURCE, tmp_path / "kernel.so")
    assert ctypes.CDLL(str(tmp_path / "kernel.so")).measure_borders


def test_a_compiler_that_fails_leaves_no_library_and_no_older_one(tmp_path: Path) -> None:
    needs_compiler()
    (tmp_path / "broken.c").write_text("this is not C", encoding="utf-8")
    (tmp_path / "kernel.so").write_bytes(b"older")
    assert not build_kernel.compile_kernel(tmp_path / "broken.c", tmp_path / "kernel.so")
    assert [path.name for path in tmp_path.iterdir()] == ["broken.c"]
