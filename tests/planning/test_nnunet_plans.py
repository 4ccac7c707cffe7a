"""Plans are those of nnU-Net 2.8.1, whose planner made the table below.

Its `plan_experiment` ran on data sets that had a fingerprint (images of the size given, spacing 1) and no
pixels: `ExperimentPlanner` for the plain encoder, `nnUNetPlannerResEncM`, L and XL for the residual one with 8,
24 and 40 GB, and `gpu_memory_target_in_gb` for other sizes of memory. The widths, blocks and poolings were equal, too.
"""

import math
import random
from typing import Any
from unittest import mock

import pytest
import torch

from guidino_cli.config import ComponentSettings, ModelSettings
from guidino_cli.models import build_model
from guidino_cli.planning.fingerprint import ClassStatistics, DatasetFingerprint
from guidino_cli.planning.proposal import propose_plan
from guidino_cli.planning.rules import ENCODERS, plan_network, pools_per_axis

Size = tuple[int, int]
# Encoder, GB, median height and width, cases, classes; patch, poolings per axis, batch.
PLANS: list[tuple[str, float, tuple[float, float], int, int, Size, Size, int]] = [
    ("plain", 8, (600, 500), 1000, 2, (640, 512), (7, 7), 10),
    ("plain", 8, (3000, 4000), 1000, 2, (1024, 1536), (8, 8), 2),
    ("plain", 8, (530, 622), 1000, 2, (640, 640), (7, 7), 8),
    ("plain", 8, (1500, 2000), 1000, 2, (1024, 1536), (8, 8), 2),
    ("plain", 8, (1006, 1364), 1000, 2, (1024, 1536), (8, 8), 2),
    ("residual", 8, (1006, 1364), 1000, 2, (448, 576), (6, 6), 13),
    ("residual", 8, (530, 622), 1000, 2, (512, 512), (7, 7), 13),
    ("residual", 8, (600, 500), 1000, 2, (512, 512), (7, 7), 13),
    ("residual", 8, (3000, 4000), 1000, 2, (448, 576), (6, 6), 13),
    ("plain", 8, (231, 2453), 2000, 3, (256, 2048), (6, 8), 6),
    ("plain", 8, (1787, 3405), 50, 9, (896, 1536), (7, 8), 2),
    ("plain", 8, (681, 327), 2000, 3, (704, 384), (6, 6), 12),
    ("plain", 8, (242, 125), 10000, 5, (256, 128), (5, 5), 99),
    ("plain", 8, (2396, 245), 2000, 14, (2048, 256), (8, 6), 6),
    ("plain", 8, (192, 1828), 50, 3, (192, 2048), (5, 8), 2),
    ("plain", 8, (1576, 311), 12, 3, (1792, 320), (8, 6), 2),
    ("plain", 8, (3694, 68), 10000, 14, (2048, 80), (8, 4), 19),
    ("plain", 8, (488, 769), 400, 5, (512, 896), (7, 7), 7),
    ("residual", 8, (92, 845), 2000, 9, (96, 896), (4, 7), 36),
    ("residual", 8, (202, 163), 2000, 5, (224, 192), (5, 5), 76),
    ("residual", 8, (301, 410), 12, 14, (320, 448), (6, 6), 10),
    ("residual", 8, (209, 540), 101, 5, (224, 576), (5, 6), 25),
    ("residual", 8, (731, 599), 2000, 9, (512, 512), (7, 7), 12),
    ("residual", 8, (1189, 545), 50, 2, (768, 320), (7, 6), 13),
    ("residual", 8, (100, 252), 10000, 5, (112, 256), (4, 5), 113),
    ("residual", 8, (203, 3996), 400, 14, (128, 2048), (5, 8), 12),
    ("residual", 8, (190, 494), 3, 9, (192, 512), (5, 6), 3),
    ("residual", 24, (256, 669), 400, 14, (256, 704), (6, 6), 50),
    ("residual", 24, (779, 348), 400, 2, (896, 384), (7, 6), 27),
    ("residual", 24, (231, 690), 3, 14, (256, 704), (6, 6), 3),
    ("residual", 40, (836, 298), 101, 3, (896, 320), (7, 6), 47),
    ("residual", 40, (3214, 71), 12, 2, (2048, 80), (8, 4), 17),
    ("residual", 40, (231, 690), 3, 14, (256, 704), (6, 6), 3),
    ("plain", 24, (836, 298), 101, 3, (896, 320), (7, 6), 4),
    ("plain", 5, (242, 125), 10000, 5, (256, 128), (5, 5), 62),
    ("plain", 5, (941, 1243), 10000, 14, (768, 1152), (7, 7), 2),
    ("residual", 3, (538, 69), 12, 14, (576, 80), (6, 4), 10),
    ("residual", 3, (1682, 2702), 50, 9, (256, 384), (6, 6), 12),
]


@pytest.mark.parametrize(("encoder", "budget_gb", "median", "cases", "classes", "patch", "pools", "batch"), PLANS)
def test_plans_are_those_of_nnunet(
    encoder: str,
    budget_gb: float,
    median: tuple[float, float],
    cases: int,
    classes: int,
    patch: Size,
    pools: Size,
    batch: int,
) -> None:
    plan = plan_network(median, cases=cases, classes=classes, encoder=ENCODERS[encoder], budget_gb=budget_gb)
    assert (plan.patch_hw, plan.batch_size) == (patch, batch)
    assert pools_per_axis(plan.patch_hw) == pools
    assert len(plan.widths) == 1 + max(pools)


def _fingerprint(median: tuple[float, float], cases: int, classes: int) -> DatasetFingerprint:
    size, grey = (1, 1), (90.0, 90.0, 90.0)
    found = tuple(ClassStatistics(str(number), cases, 0.1, 0.01) for number in range(1, classes))
    return DatasetFingerprint(cases, median, size, size, grey, grey, (grey, grey), True, found)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_planned_network_can_be_built_and_fits_its_window(encoder: str) -> None:
    medians = {(median, classes) for _, _, median, _, classes, *_ in PLANS} | {((16, 16), 2), ((17, 16), 2)}
    built = set()
    for median, classes in medians:
        ours = propose_plan(_fingerprint(median, 50, classes), encoder=encoder, budget_gb=8).ours
        blocks = ENCODERS[encoder].blocks[: len(ours.widths)]
        options = {"encoder": encoder, "widths": list(ours.widths), "blocks": list(blocks)}
        side = ours.patch_hw[0]
        assert ours.patch_hw == (side, side)
        if (side, classes) in built:
            continue
        built.add((side, classes))
        with torch.device("meta"):
            model = build_model(ModelSettings(segmenter=ComponentSettings("nnunet", options)), num_classes=classes)
            assert side % model.segmenter.stride == 0
            logits = model(torch.zeros(2, 3, side, side)).logits[0]
        assert logits.shape == (2, classes, side, side)
    assert len(built) > 8


def _random_fingerprint(generator: random.Random) -> dict[str, Any]:
    height, width = (math.exp(generator.uniform(math.log(64), math.log(4000))) for _ in range(2))
    return {
        "median": (round(2 * height) / 2, round(2 * width) / 2),
        "cases": generator.choice([3, 12, 50, 101, 400, 2000]),
        "classes": generator.choice([2, 3, 5, 9]),
        "channels": generator.choice([1, 2, 3]),
    }


@pytest.mark.parametrize(
    ("encoder", "planner", "budget_gb"),
    [("plain", "ExperimentPlanner", 8), ("plain", "ExperimentPlanner", 11), ("residual", "nnUNetPlannerResEncM", 8),
     ("residual", "nnUNetPlannerResEncL", 24), ("residual", "nnUNetPlannerResEncXL", 40)],
)  # fmt: skip
def test_two_hundred_random_plans_equal_those_of_an_installed_nnunet(
    encoder: str, planner: str, budget_gb: int
) -> None:
    """Needs `pip install nnunetv2==2.8.1`, which the project does not."""
    pytest.importorskip("nnunetv2", reason="nnunetv2 is not installed")
    oracle = _make_planner(planner, budget_gb)
    generator, cache = random.Random(planner), dict[str, dict[str, int]]()
    for _ in range(200):
        facts = _random_fingerprint(generator)
        median, cases, classes = facts["median"], facts["cases"], facts["classes"]
        oracle.dataset_json = {
            "channel_names": {str(number): "R" for number in range(facts["channels"])},
            "labels": {str(number): number for number in range(classes)},
        }
        with torch.device("meta"):
            theirs = oracle.get_plans_for_configuration(
                (1.0, 1.0),
                median,
                "2d",
                float(median[0] * median[1] * cases),
                cache.setdefault(str(facts["channels"]) + str(classes), {}),
            )
        ours = plan_network(median, cases=cases, classes=classes, encoder=ENCODERS[encoder], budget_gb=budget_gb)
        network = theirs["architecture"]["arch_kwargs"]
        assert ours.patch_hw == tuple(int(side) for side in theirs["patch_size"]), facts
        assert ours.batch_size == theirs["batch_size"], facts
        assert list(ours.widths) == list(network["features_per_stage"]), facts
        pools = tuple(sum(stride[axis] == 2 for stride in network["strides"]) for axis in (0, 1))
        assert pools_per_axis(ours.patch_hw) == pools, facts


def _make_planner(name: str, budget_gb: int) -> Any:
    """A planner of nnU-Net without its data set folders."""
    planners = "nnunetv2.experiment_planning.experiment_planners"
    default = pytest.importorskip(f"{planners}.default_experiment_planner")
    residual = pytest.importorskip(f"{planners}.residual_unets.residual_encoder_unet_planners")
    readers = (
        "maybe_convert_to_dataset_name",
        "load_json",
        "get_filenames_of_train_images_and_targets",
        "join",
        "isfile",
    )
    with mock.patch.multiple(default, **dict.fromkeys(readers, mock.DEFAULT)) as patched:
        patched["isfile"].side_effect = [True, False]
        planner = getattr(residual, name, None) or getattr(default, name)
        made = planner("Dataset001_T", gpu_memory_target_in_gb=budget_gb)
    made.determine_normalization_scheme_and_whether_mask_is_used_for_norm = lambda: ([], [])
    return made
