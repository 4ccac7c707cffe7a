"""A sharded frozen backbone: two processes learn the same as with an unsharded one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.config import RunConfig, override
from guidino_cli.engine.training.preflight import run_preflight
from guidino_cli.engine.training.sharded_backbone import (
    ShardedBackbone,
    group_ranks_by_machine,
    synchronize_features,
    wait_for_sharded_backbone,
)
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_backbone

TOGETHER = Path(__file__).with_name("two_processes.py")
GUIDED = ("model.backbone={name: random}", "model.guide={}")


@dataclass(frozen=True)
class Two:
    """What two processes left behind: their runs, and what each of them saw."""

    out: Path
    seen: tuple[dict[str, Any], dict[str, Any]]

    def history(self, name: str) -> list[dict[str, float]]:
        """Of a run, without what the clock decides."""
        rows = [json.loads(line) for line in (self.out / name / "history.jsonl").read_text().splitlines()]
        return [{key: value for key, value in row.items() if "second" not in key} for row in rows]

    def weights(self, name: str) -> bytes:
        """The best ones of a run."""
        return (self.out / name / "best" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def two(make_data_in: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Two:
    """Two processes on the CPU with eight training cases and three, an odd number, to validate."""
    if not hasattr(os, "fork") or not torch.distributed.is_gloo_available():
        pytest.skip("needs fork and gloo")
    place = tmp_path_factory.mktemp("two")
    data = make_data_in(place, train=8, val=3)
    line = [sys.executable, str(TOGETHER), str(data), str(place)]
    # Processes that are not in step wait for each other for ever.
    outcome = subprocess.run(
        line, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=600
    )
    assert outcome.returncode == 0, outcome.stderr
    first, second = (json.loads((place / f"seen{rank}.json").read_text()) for rank in range(2))
    return Two(place, (first, second))


def test_losses_scores_and_best_weights_do_not_depend_on_sharding(two: Two) -> None:
    assert two.history("sharded") == two.history("plain")
    assert len(two.history("plain")) == 2
    assert two.weights("sharded") == two.weights("plain")


def test_each_process_holds_half_of_the_backbone(two: Two) -> None:
    for seen in two.seen:
        # One number more where a first axis is odd, such as that of the class token.
        assert seen["whole"] / 2 <= seen["held"] < 0.51 * seen["whole"]


def test_processes_may_validate_different_numbers_of_cases(two: Two) -> None:
    """Two cases and one, of four windows each: the other process takes part in what it does not need."""
    plain, sharded = ([seen[f"{name} calls"] for seen in two.seen] for name in ("plain", "sharded"))
    assert plain[0] > plain[1]
    assert sharded[0] == sharded[1] == plain[0]


def test_a_process_with_cached_features_waits_for_the_other(two: Two) -> None:
    plain, sharded = ([seen[f"{name} kept calls"] for seen in two.seen] for name in ("plain", "sharded"))
    assert plain[0] != plain[1]
    assert sharded[0] == sharded[1] >= max(plain)
    assert two.history("sharded kept") == two.history("plain kept")
    assert two.weights("sharded kept") == two.weights("plain kept")


def test_a_case_that_one_process_cannot_read_ends_both(two: Two) -> None:
    first, second = (seen["broken"] for seen in two.seen)
    assert first == 3
    assert "gone.png" in second
    assert "resume with: guidino train --resume" in second


def test_a_checkpoint_without_the_sharded_backbone_can_be_resumed(two: Two) -> None:
    for seen in two.seen:
        assert seen["saved"]
        assert not any(name.startswith("backbone.") for name in seen["saved"])
        assert seen["went on with the same"]
        assert seen["went on at"] == 2


def test_accelerate_never_sees_sharded_weights(two: Two) -> None:
    """On GPUs it refuses them; on CPUs it does not look."""
    for seen in two.seen:
        assert seen["in pieces"]
        assert not seen["accelerate is shown pieces"]


@pytest.mark.parametrize("kind", ["random torch.float32", "random torch.bfloat16", "sam2 torch.float32"])
def test_features_equal_those_of_the_unsharded_backbone(two: Two, kind: str) -> None:
    assert all(seen[kind] for seen in two.seen)


@pytest.mark.parametrize("kind", ["random", "sam2"])
def test_matrices_are_sent_in_the_precision_of_the_products(two: Two, kind: str) -> None:
    """Half the bytes; normalizations stay in float32, and the features are those of autocast to the last bit."""
    for seen in two.seen:
        assert seen[f"{kind} in bf16"]["dtypes"] == ["LayerNorm torch.float32", "Linear torch.bfloat16"]
        assert seen[f"{kind} in bf16"]["same"]


# --- Without other processes


def test_a_backbone_is_sharded_within_each_machine() -> None:
    assert group_ranks_by_machine(["a", "b", "a", "b", "b"]) == [[0, 2], [1, 3, 4]]


def test_a_process_alone_on_its_machine_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is one process on b: add --devices N, or leave it out"):
        group_ranks_by_machine(["a", "a", "b"])


def test_a_single_process_is_refused_but_not_a_dry_run() -> None:
    config = override(RunConfig(), [*GUIDED, "train.shard_backbone=true"])
    run_preflight(config, "cpu", processes=None)
    run_preflight(config, "cpu", processes=2)
    with pytest.raises(ConfigError, match="there is one process: add --devices N"):
        run_preflight(config, "cpu", processes=1)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (("model.backbone={name: random}", "model.guide={}", "model.lora={}"), "model.lora trains it"),
        (("model.backbone={name: random}", "model.guide={}", "model.finetune={}"), "model.finetune trains it"),
        ((), "there is no model.backbone"),
    ],
)
def test_only_a_frozen_backbone_is_sharded(settings: tuple[str, ...], found: str) -> None:
    with pytest.raises(ConfigError, match=f"needs a frozen backbone, but {found}: set it to false"):
        override(RunConfig(), [*settings, "train.shard_backbone=true"])


def test_a_backbone_with_adapters_of_its_own_is_refused() -> None:
    backbone = build_backbone("sam2", {"random": True, "size": "tiny", "widths": [8, 16, 32, 64]})
    with pytest.raises(ConfigError, match="this SAM2 has trained adapters"):
        ShardedBackbone(backbone, torch.device("cpu"))


def test_an_unsharded_backbone_does_not_wait() -> None:
    backbone, maps = build_backbone("random", {"hidden_size": 32, "depth": 1, "heads": 2}), [torch.zeros(1)]
    recall = synchronize_features(backbone, lambda _: maps)
    assert recall(list) is maps
    wait_for_sharded_backbone(backbone)
    wait_for_sharded_backbone(None)
