"""Configurations proposed for volumes, and their reasons, computed by hand."""

from typing import Any

import pytest
import torch
import yaml

from guidino_cli.data.volumes.spacing import Shape, Spacing, Target
from guidino_cli.errors import DataError
from guidino_cli.models.segmenters.nnunet import NNUNet, NNUNet3d
from guidino_cli.planning.fingerprint import ClassStatistics
from guidino_cli.planning.volumes.explanation import describe_topology, explain_configuration, explain_volumes
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint
from guidino_cli.planning.volumes.preset import format_volume_preset
from guidino_cli.planning.volumes.proposal import Configuration, VolumeProposal, propose_volume_plan
from guidino_cli.types import ChannelStatistics

_KEPT: Target = (None, None, None)
_CT = ChannelStatistics(-200, 400, 50, 60, 55, -100, 250)
_THICK: Spacing = (5, 0.78125, 0.78125)


def _facts(
    spacings: Spacing | list[Spacing],
    shape: Shape,
    *,
    cases: int = 100,
    channels: tuple[str, ...] = ("CT",),
    prepared: Target = _KEPT,
    kept: float = 1.0,
) -> VolumeFingerprint:
    each = spacings if isinstance(spacings, list) else [spacings] * cases
    shapes = (shape,) * len(each)
    return VolumeFingerprint(
        cases=len(each),
        channels=channels,
        spacings_mm=tuple(each),
        shapes=shapes,
        cropped=shapes,
        kept=kept,
        prepared_mm=prepared,
        statistics=(_CT,) * len(channels),
        classes=(ClassStatistics("liver", len(each), 0.02, 0.01),),
    )


def _propose(facts: VolumeFingerprint, *, encoder: str = "plain", steps: int | None = None) -> VolumeProposal:
    return propose_volume_plan(facts, encoder=encoder, budget_gb=8, steps=steps)


def _patches(proposal: VolumeProposal) -> Configuration:
    assert proposal.patches is not None
    return proposal.patches


def test_a_ct_of_thick_slices_gets_both_configurations() -> None:
    """512 x 512 px are nnU-Net's known 2-D plan. In 3-D, 5 mm are more than twice 0.78 and 1.56 mm, not 3.1 mm."""
    proposal = _propose(_facts(_THICK, (60, 512, 512)))
    assert proposal.slices.patch == (512, 512)
    assert proposal.slices.network.batch_size == 12
    patches = _patches(proposal)
    assert patches.network.topology.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert (proposal.slice_axis, proposal.median) == (0, (60, 512, 512))
    assert (proposal.steps, proposal.epochs, proposal.steps_per_epoch) == (250_000, 1000, 250)


def test_meddinov3s_spacing_is_nnunets_times_its_patch_by_896() -> None:
    proposal = _propose(_facts(_THICK, (60, 512, 512)))
    assert proposal.meddinov3 == (None, pytest.approx(400 / 896), pytest.approx(400 / 896))


@pytest.mark.parametrize(
    ("channels", "prepared"), [(("MR",), _KEPT), (("CT",), (None, 0.5, 0.5)), (("CT",), (5.0, 0.78125, 0.78125))]
)
def test_meddinov3_is_for_ct_whose_own_spacing_is_known(channels: tuple[str, ...], prepared: Target) -> None:
    assert _propose(_facts(_THICK, (60, 512, 512), channels=channels, prepared=prepared)).meddinov3 is None


def test_memory_is_the_share_of_the_reference() -> None:
    """A plain 512 x 512 patch of two classes has 82,624,512 values: 12 of 85e6 fill 8 GB."""
    slices = _propose(_facts(_THICK, (60, 512, 512))).slices
    assert slices.memory_gb == pytest.approx(8 * 82_624_512 / 85e6)


def test_slices_are_square_where_nnunets_are_not() -> None:
    """384 x 256 is halved 6 times (384: 6; 256: 4); sqrt(384 x 256) / 64 = 4.9 makes 5 of 64."""
    proposal = _propose(_facts((6, 1, 1), (20, 384, 256)))
    assert proposal.nnunet.slices.topology.patch == (384, 256)
    assert proposal.slices.patch == (320, 320)
    lines = explain_configuration(proposal, proposal.slices)
    assert "Slices are square here: 320x320, nearly the same area." in lines[0]
    # 320 of 384 rows and all columns.
    assert lines[1] == "A patch of 320x320 shows 83% of the median slice."


def test_data_that_has_the_spacing_needs_no_preparation() -> None:
    proposal = _propose(_facts(_THICK, (60, 512, 512)))
    assert proposal.slices.prepare is None
    assert _patches(proposal).prepare is None


def test_other_spacings_are_prepared_for() -> None:
    """Slices keep their distance in 2-D."""
    spacings: list[Spacing] = [(2, 0.7, 0.7), (2, 0.8, 0.8), (2, 0.8, 0.8)]
    proposal = _propose(_facts(spacings, (60, 200, 200)))
    assert proposal.slices.prepare == (None, 0.8, 0.8)
    assert _patches(proposal).prepare == (2, 0.8, 0.8)


def test_different_distances_of_slices_concern_patches_alone() -> None:
    proposal = _propose(_facts([(1, 0.8, 0.8), (2, 0.8, 0.8), (3, 0.8, 0.8)], (60, 200, 200)))
    assert proposal.slices.prepare is None
    assert _patches(proposal).prepare == (2, 0.8, 0.8)


def test_spacings_that_differ_by_less_than_a_hundredth_are_equal() -> None:
    near, far = (_propose(_facts([(1, 1, 1), (1, mm, 1), (1, 1, 1)], (64, 64, 64))) for mm in (1.009, 1.011))
    assert near.slices.prepare is None
    assert far.slices.prepare == (None, 1, 1)


@pytest.mark.parametrize(("rows", "axis"), [(1.04, 0), (1.06, 1)])
def test_slices_are_axial_unless_another_spacing_is_clearly_larger(rows: float, axis: int) -> None:
    proposal = _propose(_facts((1, rows, 1), (128, 128, 128)))
    assert proposal.slice_axis == axis
    assert proposal.nnunet.axes[0] == 1
    said = "\n".join(explain_volumes(proposal, _facts((1, rows, 1), (128, 128, 128)), name="any"))
    assert ("nnU-Net would cut coronal ones" in said) == (axis == 0)


def test_the_axis_of_the_slices_comes_first() -> None:
    """Sagittal slices, 4 mm apart: patch and strides begin with x."""
    proposal = _propose(_facts((0.8, 0.8, 4), (320, 320, 24)))
    assert (proposal.slice_axis, proposal.axes, proposal.median) == (2, (2, 0, 1), (24, 320, 320))
    assert _patches(proposal).network.topology.strides[1] == (1, 2, 2)
    assert "Slices are sagittal, across x, the axis of the largest spacing." in explain_volumes(
        proposal, _facts((0.8, 0.8, 4), (320, 320, 24)), name="any"
    )


def test_given_steps_are_split_into_epochs() -> None:
    facts = _facts((1, 1, 1), (64, 64, 64))
    assert [_propose(facts, steps=steps).epochs for steps in (100, 250, 1000)] == [1, 1, 4]
    assert _propose(facts, steps=100).steps_per_epoch == 100


def test_single_slices_have_no_configuration_in_three_dimensions() -> None:
    assert _propose(_facts((5, 1, 1), (1, 256, 256))).patches is None


def test_slices_too_small_for_three_stages_are_refused() -> None:
    with pytest.raises(DataError, match=r"has 12x14 voxels, too few .* 16 a side; prepare .* finer --spacing"):
        _propose(_facts((1, 1, 1), (20, 14, 12)))


def test_spacing_and_intensities_are_explained() -> None:
    spacings: list[Spacing] = [(float(distance), 1.5, 1.5) for distance in range(5, 16)]
    facts = _facts(spacings, (10, 200, 200), channels=("CT", "T2w"), kept=0.6)
    lines = explain_volumes(_propose(facts), facts, name="heart")
    assert lines[0] == "For heart, 11 training volumes, by nnU-Net's rules; up to 8 GB, plain encoder."
    assert lines[1] == (
        "Spacing 6 x 1.5 x 1.5 mm (z, y, x): the median of the volumes, but along z, where slices are few and thick, "
        "their 10th percentile."
    )
    assert lines[2] == "Sizes are those of the boxes around non-zero voxels, 60% of a volume (median)."
    assert "CT: clipped to -100 and 250, minus 50, over 60: of the training foreground, as nnU-Net does." in lines
    assert any(line.startswith("T2w: minus the mean of each volume") and "less than 75 %" in line for line in lines)


def test_a_spacing_that_was_chosen_is_said_to_be() -> None:
    facts = _facts((2, 1, 1), (64, 64, 64), prepared=(2, 1, 1))
    assert "Spacing 2 x 1 x 1 mm (z, y, x): that of the prepared data." in explain_volumes(
        _propose(facts), facts, name="any"
    )


def test_a_cascade_is_named_and_not_built() -> None:
    """512^3 voxels of 1 mm: 2.575 mm, as the rules' test computes it."""
    facts = _facts((1, 1, 1), (512, 512, 512))
    proposal = _propose(facts)
    text = "\n".join(explain_configuration(proposal, _patches(proposal)))
    assert "would first segment all of a volume at 2.575 x 2.575 x 2.575 mm" in text
    assert "cascade, which guidino does not have. For that spacing alone: --spacing 2.575,2.575,2.575." in text
    assert "shows 2% of the median volume" in text
    assert explain_volumes(proposal, facts, name="any")[-1].endswith("nnU-Net's is too.")


def test_a_capped_batch_is_explained() -> None:
    proposal = _propose(_facts((1, 1, 1), (35, 50, 35), cases=20))
    assert explain_configuration(proposal, _patches(proposal))[-1].endswith(
        "a step shows 5 % of the voxels at most, but two patches."
    )


def test_the_network_is_described() -> None:
    proposal = _propose(_facts(_THICK, (60, 512, 512)))
    assert describe_topology(proposal.slices) == "8 stages, halved 7x7 times"
    assert describe_topology(_patches(proposal)).endswith("kernels 1x3x3 in the first 2 stages")


def _settings(dims: int, encoder: str) -> dict[str, Any]:
    facts = _facts(_THICK, (60, 512, 512))
    proposal = _propose(facts, encoder=encoder)
    configuration = proposal.slices if dims == 2 else _patches(proposal)
    text = format_volume_preset(proposal, configuration, facts, name="liver")
    assert max(map(len, text.splitlines())) <= 120
    settings: dict[str, Any] = yaml.safe_load(text)
    assert settings["train"]["batch_size"] == configuration.network.batch_size
    assert settings["train"]["epochs"] * settings["train"]["steps"] == 250_000
    assert settings["data"]["slice_axis"] == "z"
    assert settings["data"]["intensity"] == "zscore"
    return settings


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_the_planned_network_for_patches_can_be_built_and_fits(encoder: str) -> None:
    settings = _settings(3, encoder)
    patch = settings["data"]["patch_size"]
    with torch.device("meta"):
        network = NNUNet3d(num_classes=2, in_channels=1, **settings["model"]["segmenter"]["options"])
        features = network.encode(torch.zeros(1, 1, *patch), [])
        logits = network.decode(features, tuple(patch))[0]
    assert logits.shape == (1, 2, *patch)
    assert min(features[-1].shape[2:]) >= 4
    assert settings["model"]["segmenter"]["name"] == "nnunet3d"


@pytest.mark.parametrize("encoder", ["plain", "residual"])
def test_the_planned_network_for_slices_can_be_built_and_fits(encoder: str) -> None:
    settings = _settings(2, encoder)
    side = settings["data"]["image_size"]
    assert settings["data"]["resize"] == "none"
    with torch.device("meta"):
        network = NNUNet(num_classes=2, in_channels=1, **settings["model"]["segmenter"]["options"])
        features = network.encode(torch.zeros(1, 1, side, side), [])
        assert network.decode(features, (side, side))[0].shape == (1, 2, side, side)
    assert features[-1].shape[2:] == (4, 4)
