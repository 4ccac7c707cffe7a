"""guidino weights: what the hub is asked for, through the real command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_download_never_mixes_two_models_in_one_folder(guidino: Callable[..., Any], wide_folder: Path) -> None:
    for place in (wide_folder, wide_folder / "config.json"):
        outcome = guidino("weights", "download", "dinov2-small", "-o", place)
        assert outcome.code == 2
        assert "is there already" in outcome.stderr


def test_download_tells_size_and_licence_before_it_asks_the_hub(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "download", "dinov3-vitb16", "--offline")
    assert outcome.code == 4
    assert outcome.stderr.index("343 MB") < outcome.stderr.index("DINOv3 licence") < outcome.stderr.index("offline")


def test_download_of_a_gated_model_says_where_to_accept_the_licence(
    guidino: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def snapshot(*_: object, local_files_only: bool = False, **__: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        response: Any = SimpleNamespace(headers={}, request=None, status_code=401)
        raise GatedRepoError("401 Client Error", response=response)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    outcome = guidino("weights", "download", "dinov3-vits16")
    assert outcome.code == 4
    assert "https://huggingface.co/facebook/dinov3-vits16-pretrain-lvd1689m and run `hf auth login`" in outcome.stderr
