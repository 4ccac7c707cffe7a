"""A backbone is sharded straight from its file: no process ever has all of its weights to itself."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.models.backbones.dino import random_dino

SCRIPT = Path(__file__).with_name("sharding_from_file.py")
# Precision of the file, and of the backbone.
KINDS = ("bfloat16 float32", "float32 bfloat16")
kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes on the CPU saw while it loaded and sharded backbones."""
    if platform.libc_ver()[0] != "glibc" or not torch.distributed.is_gloo_available():
        pytest.skip("needs Linux with glibc, which tell what memory a process has to itself, and gloo")
    out = tmp_path_factory.mktemp("sharded_loading")
    # 20 blocks of 1.8 million parameters: one is little beside half of them all.
    for stored in ("float32", "bfloat16"):
        vit = random_dino(hidden_size=384, depth=20).vit
        vit.to(getattr(torch, stored)).save_pretrained(out / stored)
    # Loaded first: what libraries need is no matter of the weights.
    random_dino(hidden_size=32, depth=1, heads=1).vit.bfloat16().save_pretrained(out / "tiny")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    line = [sys.executable, str(SCRIPT), str(out)]
    outcome = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert outcome.returncode == 0, outcome.stderr
    return [
        json.loads((out / f"seen{rank}.json").read_text())[kind] | {"kind": kind} for rank in (0, 1) for kind in KINDS
    ]


@kinds
def test_features_and_identity_are_those_of_an_unsharded_backbone(two: list[dict[str, Any]], kind: str) -> None:
    for seen in (seen for seen in two if seen["kind"] == kind):
        assert seen["same features"]
        assert seen["same identity"]
        assert seen["dtypes"] == [f"torch.{kind.split()[1]}"]


@kinds
def test_no_process_has_all_weights_to_itself(two: list[dict[str, Any]], kind: str) -> None:
    """Its half, a block or two on the way, and what the libraries need: less than the whole."""
    for seen in (seen for seen in two if seen["kind"] == kind):
        assert seen["mapped"]
        assert seen["grown"] < 0.85 * seen["whole"], seen


@kinds
def test_the_file_is_let_go_of(two: list[dict[str, Any]], kind: str) -> None:
    assert not any(seen["still mapped"] for seen in two if seen["kind"] == kind)
