"""guidino weights: which weights are known, and where they are, through the real command line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.models.pretrained.catalogue import KNOWN


def test_list_names_every_known_backbone_within_80_columns(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "list")
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    assert all(any(line.startswith(item.name + " ") for line in lines) for item in KNOWN)
    assert max(map(len, lines)) <= 80
    assert outcome.stdout.isascii()


def test_list_says_what_is_in_the_users_own_folder(
    guidino: Callable[..., Any], wide_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide_folder.rename(wide_folder.with_name("dinov3-vits16"))
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(wide_folder.parent))
    rows = {line.split()[0]: line.split()[-1] for line in guidino("weights", "list").stdout.splitlines()}
    assert rows["dinov3-vits16"] == "local"
    assert guidino("weights", "where", "kvasir-nnwnet").stdout.strip() == str(wide_folder.with_name("dinov3-vits16"))


def test_where_refuses_a_folder_without_weights(guidino: Callable[..., Any], tmp_path: Path) -> None:
    told = guidino("weights", "where", str(tmp_path))
    assert told.code == 4
    assert "a folder without weights" in told.stderr


def test_list_and_where_do_not_import_torch(wide_folder: Path) -> None:
    code = (
        "import sys; from guidino_cli.commands.weights import listing as it; it.run_list(); it.run_where(sys.argv[1]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(wide_folder)], capture_output=True).returncode == 0


def test_where_ends_with_4_and_the_download_command_when_weights_are_not_here(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "where", "kvasir-nnwnet")
    assert outcome.code == 4
    assert "guidino weights download dinov3-vits16` (86 MB)" in outcome.stderr


def test_where_of_an_unknown_name_suggests_one(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "where", "dinov3-vitb61")
    assert outcome.code == 2
    assert "did you mean 'dinov3-vitb16'" in outcome.stderr


def test_a_preset_without_a_backbone_has_no_weights(guidino: Callable[..., Any]) -> None:
    assert guidino("weights", "where", "kvasir-plain-unet").code == 2


def test_where_tells_of_the_gate_and_of_the_weights_without_one(guidino: Callable[..., Any]) -> None:
    said = " ".join(guidino("weights", "where", "kvasir-nnwnet").stderr.split())
    assert "accept its licence first at https://huggingface.co/facebook/dinov3-vits16-pretrain-lvd1689m" in said
    assert "backbone guidino-tiny needs no hub" in said
    assert "gated" not in guidino("weights", "where", "dinov2-small").stderr


def test_where_tells_the_licence_beside_the_path(
    guidino: Callable[..., Any], wide_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide_folder.rename(wide_folder.with_name("dinov3-vits16"))
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(wide_folder.parent))
    outcome = guidino("weights", "where", "kvasir-nnwnet")
    assert outcome.stdout.strip() == str(wide_folder.with_name("dinov3-vits16"))
    assert "dinov3-vits16; licence: DINOv3 licence" in outcome.stderr
