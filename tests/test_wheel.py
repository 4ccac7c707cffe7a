"""The wheel does without the checkout: built, installed into a fresh environment, and used far away from here."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the unpacked source distribution, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("dist")
    _build("sdist", folder, source=ROOT)
    (archive,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(archive, folder)
    _build("wheel", folder, source=folder / archive.name.removesuffix(".tar.gz"))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of a new environment, which has guidino from the wheel and sees the packages of this one."""
    home = tmp_path_factory.mktemp("fresh")
    venv.create(home / "env", symlinks=True)
    python = home / "env" / "bin" / "python"
    _call(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index", str(wheel)]
    )
    (packages,) = (home / "env").glob("lib/python*/site-packages")
    # A .pth file here is read, those of the folders that it names are not: an editable guidino is not found.
    folders = dict.fromkeys(sysconfig.get_path(name) for name in ("purelib", "platlib"))
    (packages / "dependencies.pth").write_text("\n".join(folders), encoding="utf-8")
    (home / "work").mkdir()

    def call(*words: str) -> str:
        path = f"{python.parent}{os.pathsep}{os.environ['PATH']}"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"PATH": path}
        return _call([*words], cwd=home / "work", env=environment)

    return call


def test_the_wheel_holds_guidino_tiny_presets_examples_and_licences(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "guidino_cli/models/backbones/guidino_tiny.safetensors" in names
    assert {f"guidino_cli/presets/{path.name}" for path in (ROOT / "presets").glob("*.yaml")} <= names
    examples = [path for path in EXAMPLES.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert {f"guidino_cli/examples/{path.relative_to(EXAMPLES).as_posix()}" for path in examples} <= names
    assert {Path(name).name for name in names if ".dist-info/licenses/" in name} == {"LICENSE", "NOTICE"}
    assert not [name for name in names if name.startswith("tests/") or "__pycache__" in name]


def test_the_wheel_is_as_large_as_the_readme_says(wheel: Path) -> None:
    megabytes = round(wheel.stat().st_size / 1e6)
    assert f"a wheel of {megabytes} MB" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_installed_package_is_not_this_checkout(installed: Callable[..., str]) -> None:
    place = installed("python", "-c", "import guidino_cli; print(guidino_cli.__file__)")
    assert not Path(place.strip()).is_relative_to(ROOT)
    assert "site-packages" in place


def test_presets_and_the_included_weights_are_found_without_the_checkout(installed: Callable[..., str]) -> None:
    listed = installed("guidino", "presets")
    assert [path.stem for path in (ROOT / "presets").glob("*.yaml") if path.stem not in listed] == []
    weights = Path(installed("guidino", "weights", "where", "guidino-tiny").strip())
    assert weights.is_file()
    assert not weights.is_relative_to(ROOT)


def test_the_example_of_the_wheel_runs_the_whole_job(installed: Callable[..., str]) -> None:
    installed("guidino", "example", "-o", "try")
    folder = Path(installed("python", "-c", "import os; print(os.path.abspath('try'))").strip())
    assert _contents(folder / "examples") == _contents(EXAMPLES)
    # One epoch: that the job runs is the claim, not that it learns.
    fast = ["--set", "train.epochs=1", "--set", "data.image_size=64", "--set", "train.min_steps=0"]
    installed("try/examples/quickstart.sh", "out/result", *fast)
    assert (folder / "out" / "result" / "report" / "report.html").is_file()
    assert len(list((folder / "out" / "result" / "masks").glob("*.png"))) == 11


def _build(kind: str, folder: Path, *, source: Path) -> None:
    _call([sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(folder)], cwd=source)


def _contents(folder: Path) -> dict[str, tuple[bytes, bool]]:
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {str(path.relative_to(folder)): (path.read_bytes(), os.access(path, os.X_OK)) for path in files}


def _call(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return str(done.stdout)
