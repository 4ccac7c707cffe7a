"""Propose a 2-D and a 3-D configuration for a data set of volumes by nnU-Net's rules."""

from dataclasses import dataclass
from math import prod

from guidino_cli.data.volumes.intensities import is_ct
from guidino_cli.data.volumes.preprocessing import find_slice_axis
from guidino_cli.data.volumes.spacing import KEEP, Spacing, Target, spacing_for_patch, target_spacing
from guidino_cli.errors import DataError
from guidino_cli.planning.encoders import ENCODERS, REFERENCE_BATCH, EncoderSpec
from guidino_cli.planning.fitting import FittedNetwork, fit_batch
from guidino_cli.planning.topology import plan_topology
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint
from guidino_cli.planning.volumes.rules import VolumePlans, plan_volumes

STEPS_PER_EPOCH = 250
_NNUNET_EPOCHS = 1000
_MEDDINOV3_SIDE = 896
_MIN_SIDE = 16
_MIN_STAGES = 3
_SAME = 0.01
"""Spacings that differ by less than this share are taken for equal."""


@dataclass(frozen=True)
class Configuration:
    """Settings for one kind of network; sizes are slices, rows and columns, or rows and columns.

    Attributes:
        dims: 2 for slices, 3 for patches.
        patch: Size of a patch.
        network: Network and batch.
        memory_gb: Estimated GPU memory of a batch.
        prepare: Spacing that `guidino prepare` must be run with; None if the data has it. None within it keeps the
            spacing of each volume.
    """

    dims: int
    patch: tuple[int, ...]
    network: FittedNetwork
    memory_gb: float
    prepare: Target | None


@dataclass(frozen=True)
class VolumeProposal:
    """Proposed settings for a data set of volumes.

    Attributes:
        encoder: "plain" or "residual".
        budget_gb: GPU memory that a network may fill, in GB.
        target_mm: Spacing along Z, Y, X that nnU-Net would resample to.
        slice_axis: 0, 1 or 2: the axis of Z, Y, X across which slices are cut, a patch's first.
        nnunet: nnU-Net's own plans, in its order of axes.
        median: Median size of a resampled volume: slices, rows and columns.
        slices: Configuration on slices.
        patches: Configuration on patches; None if volumes have too few slices for a network in three dimensions.
        steps: Optimizer steps.
        epochs: Epochs of 250 steps, or of all steps if they are fewer.
        meddinov3: Spacing for MedDINOv3's 896 px; None without CT, or if slices are prepared with a spacing already.
    """

    encoder: str
    budget_gb: float
    target_mm: Spacing
    slice_axis: int
    nnunet: VolumePlans
    median: tuple[float, ...]
    slices: Configuration
    patches: Configuration | None
    steps: int
    epochs: int
    meddinov3: Target | None

    @property
    def axes(self) -> tuple[int, int, int]:
        """Axes of Z, Y, X in the order of slices, rows and columns."""
        rows, columns = (axis for axis in range(3) if axis != self.slice_axis)
        return self.slice_axis, rows, columns

    @property
    def steps_per_epoch(self) -> int:
        """250, or all steps if they are fewer."""
        return min(STEPS_PER_EPOCH, self.steps)


def propose_volume_plan(
    fingerprint: VolumeFingerprint, *, encoder: str, budget_gb: float, steps: int | None = None
) -> VolumeProposal:
    """Apply the rules to a fingerprint.

    Args:
        fingerprint: Fingerprint of the training volumes.
        encoder: "plain" or "residual".
        budget_gb: GPU memory that a network may fill, in GB.
        steps: Optimizer steps; None for nnU-Net's 1000 times 250.

    Raises:
        DataError: The slices are too small for nnU-Net's network.
    """
    kind, classes = ENCODERS[encoder], 1 + len(fingerprint.classes)
    given = (fingerprint.spacings_mm, fingerprint.cropped)
    target = target_spacing(*given)
    axis = find_slice_axis([target])
    theirs = plan_volumes(*given, classes=classes, encoder=kind, budget_gb=budget_gb)
    # nnU-Net cuts slices across the largest spacing, however small the difference.
    ours = theirs
    if theirs.axes[0] != axis:
        ours = plan_volumes(*given, classes=classes, encoder=kind, budget_gb=budget_gb, first_axis=axis)
    square = _plan_square(ours, cases=fingerprint.cases, classes=classes, encoder=kind, budget_gb=budget_gb)
    in_plane = _in_plane(target, axis)
    slices = _configure(square, kind, budget_gb, _advise(fingerprint, in_plane))
    patches = None
    if ours.full is not None and ours.full.topology.stages >= _MIN_STAGES:
        patches = _configure(ours.full, kind, budget_gb, _advise(fingerprint, target))
    steps = _NNUNET_EPOCHS * STEPS_PER_EPOCH if steps is None else steps
    epochs = max(1, round(steps / STEPS_PER_EPOCH))
    meddinov3 = None
    if any(map(is_ct, fingerprint.channels)) and all(fingerprint.prepared_mm[other] is None for other in ours.axes[1:]):
        spacing = spacing_for_patch(ours.spacing_mm[1:], ours.slices.topology.patch, side=_MEDDINOV3_SIDE)
        meddinov3 = _place(dict(zip(ours.axes[1:], spacing, strict=True)))
    return VolumeProposal(
        encoder, budget_gb, target, axis, theirs, ours.median, slices, patches, steps, epochs, meddinov3
    )


def _plan_square(
    plans: VolumePlans, *, cases: int, classes: int, encoder: EncoderSpec, budget_gb: float
) -> FittedNetwork:
    """The network on the square of nearly the same area that allows as many halvings."""
    theirs = plans.slices.topology
    multiple = 2 ** (theirs.stages - 1)
    side = max(1, round(prod(theirs.patch) ** 0.5 / multiple)) * multiple
    if side < _MIN_SIDE or theirs.stages < _MIN_STAGES:
        rows, columns = plans.median[1:]
        raise DataError(
            f"the median training slice has {columns:g}x{rows:g} voxels, too few for nnU-Net's network, which needs "
            f"{_MIN_SIDE} a side; prepare the data with a finer --spacing"
        )
    topology = plan_topology((side, side), (1.0, 1.0))
    voxels = prod(plans.median) * cases
    return fit_batch(topology, voxels=voxels, classes=classes, encoder=encoder, budget_gb=budget_gb)


def _configure(network: FittedNetwork, encoder: EncoderSpec, budget_gb: float, prepare: Target | None) -> Configuration:
    dims = len(network.topology.patch)
    full = encoder.reference_values(budget_gb, axes=dims) * REFERENCE_BATCH[dims]
    memory = budget_gb * network.values * network.batch_size / full
    return Configuration(dims, network.topology.patch, network, memory, prepare)


def _advise(fingerprint: VolumeFingerprint, wanted: Target) -> Target | None:
    """The spacing to prepare the data with again; None if the volumes have the wanted one."""
    is_same = all(
        target is None or abs(own - target) <= _SAME * target
        for spacing in fingerprint.spacings_mm
        for own, target in zip(spacing, wanted, strict=True)
    )
    return None if is_same else wanted


def _in_plane(target: Spacing, axis: int) -> Target:
    return _place({other: target[other] for other in range(3) if other != axis})


def _place(by_axis: dict[int, float]) -> Target:
    """A target with the spacings of some axes, which keeps the others."""
    z, y, x = (by_axis.get(axis, KEEP[axis]) for axis in range(3))
    return z, y, x
