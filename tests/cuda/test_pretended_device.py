"""guidino on a pretended CUDA device: no tensor is on the wrong device, and nothing waits without a reason.

What this cannot show: speed, memory, results of CUDA kernels, several cards. See docs/gpu.md.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

sys.path.insert(0, str(Path(__file__).parent))
try:
    import waits
finally:
    sys.path.pop(0)

Results = dict[str, dict[str, Any]]
Waits = dict[tuple[str, str], str]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def runs(pretended: Callable[[str], Results]) -> Results:
    return pretended("run_checks")


@pytest.fixture(scope="module")
def commands(pretended: Callable[[str], Results]) -> Results:
    return pretended("command_checks")


@pytest.fixture(scope="module")
def tools(pretended: Callable[[str], Results]) -> Results:
    return pretended("tool_checks")


@pytest.fixture(scope="module")
def networks(pretended: Callable[[str], Results]) -> Results:
    return pretended("network_checks")


def _require_no_error(results: Results) -> None:
    failed = {name: result["error"] for name, result in results.items() if result["error"]}
    assert not failed, "\n".join(f"{name}: {error}" for name, error in failed.items())


def _trainings(runs: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, result in runs.items():
        if name.startswith("train "):
            assert result["error"] is None, f"{name}: {result['error']}"
            yield name, result["value"]


def _found(records: Iterator[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(kind, place) for record in records for kind, place, _ in record["waits"]}


def _require(found: set[tuple[str, str]], allowed: Waits) -> None:
    assert found - set(allowed) == set(), "new waits: avoid them, or give a reason in tests/cuda/waits.py"
    assert set(allowed) - found == set(), "these no longer happen: take them out of tests/cuda/waits.py"


# --- The device itself


def test_a_mixed_addition_raises_and_reads_and_copies_are_noted(runs: Results) -> None:
    """The positive control: the device would notice what the other tests say does not happen."""
    seen = runs["control"]["value"]
    assert "Expected all tensors to be on the same device" in seen["mixed addition"]
    assert "Expected all tensors to be on the same device" in seen["network on another device"]
    kinds = {kind: count for kind, _, count in seen["record"]["waits"]}
    assert kinds == {
        "read: _local_scalar_dense": 1,
        "read: boolean index": 1,
        "copy out": 1,
        "copy in: unpinned, blocking": 1,
        "copy in: unpinned, asynchronous": 1,
        "copy in: pinned, blocking": 1,
    }
    # Of four copies, the pinned and asynchronous one waits for nothing.
    assert seen["record"]["copies"] == {"in": 4, "out": 1}
    assert seen["record"]["bytes"] == {"in": 4 * 12, "out": 12}


# --- Training


def test_every_kind_of_training_runs_a_step_on_the_device(runs: Results) -> None:
    for name, value in _trainings(runs):
        assert value["device"] == "cuda", name
        assert 0 < value["loss"] < 20, name
        assert value["moved but frozen"] == [], name
        assert value["still but trained"] == [], name


def test_the_precision_is_that_of_the_settings(runs: Results) -> None:
    found = {name.removeprefix("train "): value["precision"] for name, value in _trainings(runs)}
    assert found.pop("float32") == "no"
    assert found.pop("fp16") == "fp16"
    assert found.pop("fp16 with SGD") == "fp16"
    assert set(found.values()) == {"bf16"}


def test_a_training_step_waits_for_nothing(runs: Results) -> None:
    _require(_found(value["step"] for _, value in _trainings(runs)), waits.TRAINING_STEP)


def test_the_first_step_waits_only_to_fill_caches(runs: Results) -> None:
    _require(_found(value["first"] for _, value in _trainings(runs)), waits.FIRST_STEP)


def test_a_step_copies_its_batch_and_little_else(runs: Results) -> None:
    """Images and masks of two 32 px samples: 2 x 3 x 1024 x 4 + 2 x 1024 x 8 bytes."""
    for name, value in _trainings(runs):
        batch = 2 * 3 * 1024 * 4 + 2 * 1024 * 8
        # Besides, cached maps and the fold of each sample.
        more, copies = (1200, 10) if "closed form" in name else (1100, 4)
        assert batch <= value["step"]["bytes"]["in"] <= batch + more, name
        assert value["step"]["copies"]["in"] <= copies, name


def test_validation_waits_once_a_case(runs: Results) -> None:
    _require(_found(value["validation"] for _, value in _trainings(runs)), waits.VALIDATION)
    plain = runs["train plain"]["value"]["validation"]
    # Two masks of 40 x 48 and 50 x 70 pixels, a byte each; probabilities stay where they are.
    assert plain["copies"]["out"] == 2
    assert plain["bytes"]["out"] == 40 * 48 + 50 * 70


def _deterministic(runs: Results) -> Iterator[tuple[str, list[str]]]:
    for name, value in _trainings(runs):
        yield name.removeprefix("train "), value["not deterministic"]


def test_training_is_deterministic_but_where_a_trained_guide_is_finer_than_the_maps(runs: Results) -> None:
    """As docs/gpu.md says of losses, augmentation and guides; of the networks see below."""
    found = dict(_deterministic(runs))
    assert found.pop("guide finer than the maps") == ["_upsample_bilinear2d_aa_backward"]
    assert {name for name, operations in found.items() if operations} == set()


def test_training_and_pretraining_do_without_double_precision(runs: Results, commands: Results) -> None:
    """Which Apple's devices do not have, and most cards compute slowly; fp16, for cards only, scales in it."""
    trainings = [value for name, value in _trainings(runs) if "fp16" not in name]
    records = [value[part] for value in trainings for part in ("first", "step", "validation")]
    records += [value["step"] for _, value in _pretrainings(commands)]
    assert {place for record in records for place in record["doubles"]} == set()


# --- Commands


def test_commands_end_well_on_the_device(commands: Results) -> None:
    _require_no_error(commands)
    assert set(commands["commands"]["value"]["codes"].values()) == {0}
    assert commands["train on cuda:0"]["value"] == 0
    assert commands["train command with LoRA"]["value"] == 0
    files = commands["commands"]["value"]["files"]
    assert {"result.json", "validation.png", "post.json"} <= set(files)


def test_predictions_are_those_of_the_cpu(commands: Results) -> None:
    """In bfloat16, with 8 bits of mantissa, where the CPU may compute in float32."""
    value = commands["commands"]["value"]
    assert value["unlike the cpu"] < 0.03
    assert value["strips like the whole"] == 1.0


def _convolutions(record: dict[str, Any]) -> dict[str, int]:
    """Number of convolutions by dtype."""
    return {dtype: count for operation, dtype, count in record["dtypes"] if operation == "convolution"}


def test_training_validation_and_prediction_compute_in_one_precision(runs: Results, commands: Results) -> None:
    """All but the TokenBook, which projects in float32 always: by one convolution in each forward pass."""
    for name, dtype, guides in (
        ("plain", "bfloat16", 0),
        ("guide at the bottleneck", "bfloat16", 1),
        ("fp16", "float16", 1),
    ):
        for part, passes in (("step", 1), ("validation", 2)):
            found = _convolutions(runs[f"train {name}"]["value"][part])
            assert found.pop("float32", 0) == guides * passes, (name, part)
            assert set(found) == {dtype}, (name, part)
    for part in ("step", "validation"):
        assert set(_convolutions(runs["train float32"]["value"][part])) == {"float32"}
    value = commands["commands"]["value"]
    assert value["precision"] == {"training": "bf16", "validation": "bf16"}
    # Six images in batches of four.
    found = _convolutions(value["predict"])
    assert found.pop("float32") == 2
    assert set(found) == {"bfloat16"}


def test_a_training_uses_fast_kernels(commands: Results) -> None:
    assert commands["commands"]["value"]["benchmark"] is True


def test_prediction_waits_for_masks_only(commands: Results) -> None:
    _require(_found(iter([commands["commands"]["value"]["predict"]])), waits.PREDICTION)


def test_double_precision_is_used_for_sums_only(commands: Results) -> None:
    assert set(commands["commands"]["value"]["predict"]["doubles"]) == set(waits.DOUBLES)


# --- Commands that train no segmentation network, and instances


def test_tools_end_well_on_the_device(tools: Results) -> None:
    _require_no_error(tools)
    codes = {name: result["value"]["codes"] for name, result in tools.items()}
    assert {(name, step) for name, found in codes.items() for step, code in found.items() if code} == set()


def test_features_and_registered_images_are_those_of_the_cpu(tools: Results) -> None:
    """Features are stored in half precision: 0.0005 is a digit of numbers up to 1; images have whole grey values."""
    assert tools["features"]["value"]["unlike the cpu"] < 0.002
    assert tools["register"]["value"]["unlike the cpu"] <= 1
    assert tools["register network"]["value"]["unlike the cpu"] <= 1


def _tool_records(tools: Results) -> dict[str, dict[str, Any]]:
    records = {name: result["value"]["record"] for name, result in tools.items() if "record" in result["value"]}
    several = {"fewshot and drift": ("fewshot", "drift"), "register network": ("register train", "register --network")}
    records |= {name: tools[check]["value"][name] for check, names in several.items() for name in names}
    return records


def test_tools_use_double_precision_for_sums_only(tools: Results) -> None:
    for name, record in _tool_records(tools).items():
        assert set(record["doubles"]) <= set(waits.TOOL_DOUBLES), name


def test_tools_wait_for_their_results_only(tools: Results) -> None:
    records = _tool_records(tools)
    assert set(records) == set(waits.TOOLS)
    for name, record in records.items():
        _require(_found(iter([record])), waits.TOOLS[name])


# --- Pretraining


def _pretrainings(commands: Results) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, result in commands.items():
        if name.startswith("pretrain "):
            assert result["error"] is None, f"{name}: {result['error']}"
            yield name, result["value"]


def test_pretraining_steps_wait_for_nothing(commands: Results) -> None:
    assert len(list(_pretrainings(commands))) == 4
    _require(_found(value["step"] for _, value in _pretrainings(commands)), waits.PRETRAINING_STEP)


@pytest.mark.parametrize("kind", ["self-distillation", "distillation"])
def test_pretraining_in_bf16_computes_most_products_in_bf16(commands: Results, kind: str) -> None:
    """Losses stay in float32; a teacher that is stored in half precision computes in float32, once."""
    plain, mixed = (commands[f"pretrain {kind}, {name}"]["value"]["step"]["dtypes"] for name in ("no", "bf16"))
    assert {dtype for _, dtype, _ in plain} == {"float32"}
    halves = sum(count for _, dtype, count in mixed if dtype == "bfloat16")
    assert halves > sum(count for _, dtype, count in mixed if dtype == "float32")


# --- The zoo


def test_every_network_learns_on_the_device(networks: Results) -> None:
    _require_no_error(networks)
    for name, result in networks.items():
        if "absent" not in result["value"]:
            assert result["value"]["devices"] == ["cuda:0"], name
            assert result["value"]["idle"] == [], name


def test_no_network_waits_in_a_step(networks: Results) -> None:
    present = (result["value"] for result in networks.values() if "absent" not in result["value"])
    _require(_found(value["step"] for value in present), waits.NETWORKS)


_FUNCTIONS = {
    "grid_sampler_2d_backward": "grid_sample",
    "grid_sampler_3d_backward": "grid_sample",
    "upsample_bicubic2d_backward": "interpolate (bicubic)",
    "_adaptive_avg_pool2d_backward": "adaptive_avg_pool2d",
    "avg_pool3d_backward": "avg_pool3d",
    "cumsum": "cumsum",
}


def test_networks_that_cannot_be_deterministic_are_listed_as_such(networks: Results) -> None:
    """torch replaces other operations, such as bilinear interpolation, by slower ones."""
    for name, result in networks.items():
        if "absent" not in result["value"]:
            found = {_FUNCTIONS[operation] for operation in result["value"]["not deterministic"]}
            assert found == set(SEGMENTER_INFO[name].not_deterministic), name
