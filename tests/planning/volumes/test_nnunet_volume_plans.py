"""Plans for volumes are those of nnU-Net 2.8.1, whose planner made `nnunet_plans.json`.

Its `plan_experiment` ran on data sets that had these fingerprints and no voxels. Of 600 random ones, 150 for each of
`ExperimentPlanner`, `nnUNetPlannerResEncM`, L and XL, all were equal; 40 are kept: 12 with a cascade, 17 with turned
axes, 2 of single slices.
"""

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.planning.encoders import ENCODERS
from guidino_cli.planning.fitting import FittedNetwork
from guidino_cli.planning.volumes.rules import VolumePlans, plan_volumes

STORED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("nnunet_plans.json").read_text(encoding="utf-8"))


def _plan(facts: dict[str, Any]) -> VolumePlans:
    return plan_volumes(
        facts["spacings"],
        facts["shapes"],
        classes=facts["classes"],
        encoder=ENCODERS["plain" if facts["planner"] == "ExperimentPlanner" else "residual"],
        budget_gb=facts["gb"],
    )


def _as_nnunets(plans: VolumePlans) -> dict[str, Any]:
    """The plans under nnU-Net's names."""
    found = {"2d": _configuration(plans.slices, plans.spacing_mm[1:], plans.median[1:], batch_dice=True)}
    if plans.full is not None:
        found["3d_fullres"] = _configuration(
            plans.full, plans.spacing_mm, plans.median, batch_dice=plans.has_batch_dice
        )
    if plans.low is not None:
        low = plans.low
        found["3d_lowres"] = _configuration(low.network, low.spacing_mm, low.median, batch_dice=False)
    return found


def _configuration(
    network: FittedNetwork, spacing: Sequence[float], median: Sequence[float], *, batch_dice: bool
) -> dict[str, Any]:
    topology = network.topology
    return {
        "spacing": list(spacing),
        "median": list(median),
        "patch": list(topology.patch),
        "batch": network.batch_size,
        "widths": list(network.widths),
        "strides": [list(stride) for stride in topology.strides],
        "kernels": [list(kernel) for kernel in topology.kernels],
        "batch_dice": batch_dice,
    }


@pytest.mark.parametrize("facts", STORED, ids=[f"{number}-{row['planner']}" for number, row in enumerate(STORED)])
def test_plans_are_those_of_nnunet(facts: dict[str, Any]) -> None:
    plans = _plan(facts)
    assert list(plans.axes) == facts["axes"]
    assert _as_nnunets(plans) == facts["plans"]


def test_the_stored_plans_are_of_many_kinds() -> None:
    assert len(STORED) == 40
    assert {row["planner"] for row in STORED} == {"ExperimentPlanner", "nnUNetPlannerResEncM", "nnUNetPlannerResEncL"}
    plans = [row["plans"] for row in STORED]
    assert sum("3d_lowres" in plan for plan in plans) == 12
    assert sum("3d_fullres" not in plan for plan in plans) == 2
    assert sum(row["axes"] != [0, 1, 2] for row in STORED) == 17
    assert sum([1, 3, 3] in plan.get("3d_fullres", {}).get("kernels", []) for plan in plans) >= 10


def _random_facts(generator: random.Random, planner: str, gb: int) -> dict[str, Any]:
    """Spacings of 0.3 to 6 mm and 16 to 500 voxels along each axis, of one to five volumes that differ a little."""
    spacing = [round(0.3 * 20 ** generator.random(), 3) for _ in range(3)]
    shape = [round(16 * 31 ** generator.random()) for _ in range(3)]
    cases = generator.randint(1, 5)
    return {
        "planner": planner,
        "gb": gb,
        "spacings": [[round(mm * generator.uniform(0.8, 1.3), 3) for mm in spacing] for _ in range(cases)],
        "shapes": [[round(side * generator.uniform(0.8, 1.3)) for side in shape] for _ in range(cases)],
        "classes": generator.choice([2, 3, 5, 16]),
    }


@pytest.mark.parametrize(
    ("planner", "gb"), [("ExperimentPlanner", 8), ("nnUNetPlannerResEncM", 8), ("nnUNetPlannerResEncL", 24)]
)
def test_forty_random_plans_equal_those_of_an_installed_nnunet(
    planner: str, gb: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Needs `pip install nnunetv2==2.8.1`, which the project does not."""
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setitem(os.environ, f"nnUNet_{name}", str(tmp_path / name))
    default = pytest.importorskip(
        "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner",
        reason="nnunetv2 is not installed",
    )
    monkeypatch.setattr(default, "nnUNet_raw", str(tmp_path / "raw"))
    monkeypatch.setattr(default, "nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    generator = random.Random(planner)
    for _ in range(40):
        facts = _random_facts(generator, planner, gb)
        theirs = _plan_with_nnunet(default, facts, tmp_path, monkeypatch)
        ours = _plan(facts)
        assert list(ours.axes) == theirs["transpose_forward"], facts
        for name, configuration in _as_nnunets(ours).items():
            their = theirs["configurations"][name]
            network = their["architecture"]["arch_kwargs"]
            assert configuration == {
                "spacing": their["spacing"],
                "median": their["median_image_size_in_voxels"],
                "patch": their["patch_size"],
                "batch": their["batch_size"],
                "widths": network["features_per_stage"],
                "strides": network["strides"],
                "kernels": network["kernel_sizes"],
                "batch_dice": their["batch_dice"],
            }, facts
        assert ("3d_lowres" in theirs["configurations"]) == (ours.low is not None), facts


def _plan_with_nnunet(
    default: Any, facts: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    residual = pytest.importorskip(
        "nnunetv2.experiment_planning.experiment_planners.residual_unets.residual_encoder_unet_planners"
    )
    raw, prepared = folder / "raw" / "Dataset001_T", folder / "preprocessed" / "Dataset001_T"
    for path in (raw / "imagesTr", raw / "labelsTr", prepared):
        path.mkdir(parents=True, exist_ok=True)
    labels = {"background": 0} | {f"class {index}": index for index in range(1, facts["classes"])}
    for path, content in {
        raw / "dataset.json": {
            "channel_names": {"0": "MR"},
            "labels": labels,
            "numTraining": len(facts["shapes"]),
            "file_ending": ".nii.gz",
        },
        prepared / "dataset_fingerprint.json": {
            "spacings": facts["spacings"],
            "shapes_after_crop": facts["shapes"],
            "median_relative_size_after_cropping": 1.0,
            "foreground_intensity_properties_per_channel": {},
        },
    }.items():
        path.write_text(json.dumps(content), encoding="utf-8")
    (raw / "imagesTr" / "a_0000.nii.gz").touch()
    (raw / "labelsTr" / "a.nii.gz").touch()
    monkeypatch.setattr(default, "maybe_convert_to_dataset_name", lambda name: name)
    kind = getattr(residual, facts["planner"], None) or getattr(default, facts["planner"])
    planner = kind("Dataset001_T", gpu_memory_target_in_gb=facts["gb"], plans_name="plans")
    planner.determine_reader_writer = lambda: dict
    # The networks are only counted, so their weights need no memory.
    with torch.device("meta"):
        planner.plan_experiment()
    plans: dict[str, Any] = json.loads((prepared / "plans.json").read_text(encoding="utf-8"))
    (prepared / "plans.json").unlink()
    return plans
