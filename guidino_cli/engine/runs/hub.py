"""Runs on the Hugging Face hub: `hf:ORGANISATION/NAME` in place of a run folder, and uploading a model folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.pretrained.hub import explain_hub_error, is_offline, replace_hint

HUB_PREFIX = "hf:"
"""In front of the name of a model of the hub: without it, a mistyped folder would be asked for on the internet."""
_NAME = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>\w[\w./-]*))?")
_FILES = ["*.yaml", "*.json", "model.safetensors", "adapter/*", "*.md", "LICENSE*"]
_OPTIONAL = ["post.json", "risk.json", "adapter/*", "NOTICE.md"]
"""Files of a model that another one may lack: a later upload removes them, lest they be used with its weights."""
_HINT = "download the model elsewhere and give its folder"


def find_runs(runs: Sequence[Path], *, offline: bool = False) -> list[Path]:
    """The folders of runs; those of the hub are downloaded to its cache unless they are there.

    Args:
        runs: Folders, which stay as they are, or `hf:ORGANISATION/NAME`, of a branch, tag or commit with `@REVISION`.
        offline: Never use the network.

    Raises:
        ConfigError: Not the name of a model.
        WeightsError: The hub refuses or cannot be reached, or the model is none of guidino.
    """
    return [_fetch(str(run), offline=offline) if str(run).startswith(HUB_PREFIX) else run for run in runs]


def require_hub_name(name: str, label: str) -> tuple[str, str | None]:
    """Name and revision of a model of the hub; `ConfigError` if it is no name."""
    match = _NAME.fullmatch(name.removeprefix(HUB_PREFIX))
    if match is None:
        raise ConfigError(f"{label}: expected ORGANISATION/NAME, such as my-lab/kvasir-polyps")
    return match["name"], match["revision"]


@replace_hint(_HINT)
def _fetch(run: str, *, offline: bool) -> Path:
    """The folder of a model in the hub's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    name, revision = require_hub_name(run, run)
    only_here = offline or is_offline()
    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FILES, local_files_only=only_here))
    except RevisionNotFoundError as error:
        page = f"https://huggingface.co/{name}"
        raise WeightsError(f"{name}: has no branch, tag or commit {revision or 'main'}; see {page}") from error
    except Exception as error:
        if only_here:
            raise WeightsError(f"{run}: not in the hub's cache, and offline; {_HINT}") from error
        raise explain_hub_error(name, error) from error
    if not (folder / "config.yaml").is_file():
        raise WeightsError(f"{run}: holds no config.yaml, so it is no model of guidino; `guidino card` makes those")
    return folder


@replace_hint("try again later")
def upload_model(folder: Path, name: str, *, private: bool) -> str:
    """Upload a model folder, as one commit, to a repository of the hub that is made if it does not exist.

    Files of the model that was there, and that this one lacks, are removed; files that somebody added stay.

    Returns:
        The address of its page.

    Raises:
        WeightsError: No login, no right to write there, or the hub cannot be reached; the folder stays.
    """
    from huggingface_hub import HfApi

    api: Any = HfApi()
    try:
        address = str(api.create_repo(name, private=private, exist_ok=True))
        message = "Upload a model of guidino"
        api.upload_folder(repo_id=name, folder_path=str(folder), commit_message=message, delete_patterns=_OPTIONAL)
    except Exception as error:
        if getattr(getattr(error, "response", None), "status_code", None) in {401, 403}:
            hint = "run `hf auth login` with a token that may write there"
            raise WeightsError(f"{name}: the hub refuses the upload; {hint}; the folder is {folder}") from error
        explained = explain_hub_error(name, error)
        if isinstance(explained, WeightsError):
            raise WeightsError(f"{explained}; the folder is {folder}") from error
        raise explained from error
    return address
