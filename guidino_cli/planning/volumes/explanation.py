"""The origin of every number of a plan for volumes, in words."""

from collections.abc import Sequence
from math import prod

import numpy as np

from guidino_cli.data.volumes.intensities import is_ct
from guidino_cli.data.volumes.spacing import format_spacing
from guidino_cli.planning.encoders import ENCODERS, MIN_BATCH
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint
from guidino_cli.planning.volumes.proposal import Configuration, VolumeProposal
from guidino_cli.progress import pluralize

AXES = "zyx"
_CUTS = ("axial", "coronal", "sagittal")
_MASKED_SHARE = 0.75
"""nnU-Net normalises within non-zero voxels if cropping keeps less than this share."""


def explain_volumes(proposal: VolumeProposal, fingerprint: VolumeFingerprint, *, name: str) -> list[str]:
    """Explain what both configurations share, one line each."""
    median = by(proposal.median)
    lines = [
        f"For {name}, {pluralize(fingerprint.cases, 'training volume')}, by nnU-Net's rules; up to "
        f"{proposal.budget_gb:g} GB, {proposal.encoder} encoder.",
        _explain_spacing(proposal, fingerprint),
        f"At that spacing the median volume has {median} voxels (slices x rows x columns).",
        _explain_axis(proposal),
        *_explain_intensity(fingerprint),
        f"{proposal.epochs * proposal.steps_per_epoch:,} steps, {proposal.steps_per_epoch} an epoch, with momentum "
        "0.99 and (1 - t)^0.9.",
        "The Dice loss is over the batch, as everywhere here; nnU-Net's is "
        + ("too." if proposal.nnunet.has_batch_dice else "in 2-D, but over each patch in 3-D."),
    ]
    if fingerprint.kept < 1:
        lines.insert(
            2, f"Sizes are those of the boxes around non-zero voxels, {fingerprint.kept:.0%} of a volume (median)."
        )
    return lines


def explain_configuration(proposal: VolumeProposal, configuration: Configuration) -> list[str]:
    """Explain the patch and the batch of one configuration."""
    network = configuration.network
    sides = zip(configuration.patch, proposal.median[3 - configuration.dims :], strict=True)
    share = prod(min(1, shown / side) for shown, side in sides)
    unit = "slice" if configuration.dims == 2 else "volume"
    lines = []
    if configuration.dims == 2:
        theirs = proposal.nnunet.slices
        found = f"nnU-Net would take {by(theirs.topology.patch)} and a batch of {theirs.batch_size}."
        if theirs.topology.patch != configuration.patch:
            found += f" Slices are square here: {by(configuration.patch)}, nearly the same area."
        lines.append(found)
    lines.append(f"A patch of {by(configuration.patch)} shows {share:.0%} of the median {unit}.")
    batch = f"Batch {network.batch_size}: what fits."
    if network.capped_batch is not None:
        covered = 100 * ENCODERS[proposal.encoder].covered
        least = "" if network.batch_size > MIN_BATCH else ", but two patches"
        batch = f"Batch {network.batch_size}, though {network.capped_batch} would fit: a step shows {covered:g} % of "
        batch += f"the voxels at most{least}."
    lines.append(batch)
    if configuration.dims == 3 and proposal.nnunet.low is not None:
        low, axes = proposal.nnunet.low, proposal.nnunet.axes
        z, y, x = (low.spacing_mm[axes.index(axis)] for axis in range(3))
        lines.append(
            f"nnU-Net would first segment all of a volume at {mm((z, y, x))} (z, y, x) and refine the result, a "
            f"cascade, which guidino does not have. For that spacing alone: --spacing {format_spacing((z, y, x))}."
        )
    return lines


def describe_topology(configuration: Configuration) -> str:
    """Stages, halvings and kernels: `6 stages, halved 3x5x5 times, kernels 1x3x3 in the first`."""
    topology = configuration.network.topology
    text = f"{topology.stages} stages, halved {by(topology.pools)} times"
    flat = [kernel for kernel in topology.kernels if 1 in kernel]
    if not flat:
        return text
    kinds = " and ".join(dict.fromkeys(by(kernel) for kernel in flat))
    where = "the first stage" if len(flat) == 1 else f"the first {len(flat)} stages"
    return f"{text}, kernels {kinds} in {where}"


def _explain_spacing(proposal: VolumeProposal, fingerprint: VolumeFingerprint) -> str:
    target = mm(proposal.target_mm)
    if None not in fingerprint.prepared_mm:
        return f"Spacing {target} (z, y, x): that of the prepared data."
    medians = np.median(fingerprint.spacings_mm, axis=0)
    thick = [AXES[axis] for axis in range(3) if proposal.target_mm[axis] != medians[axis]]
    rule = "the median of the volumes"
    if thick:
        rule += f", but along {thick[0]}, where slices are few and thick, their 10th percentile"
    return f"Spacing {target} (z, y, x): {rule}."


def _explain_axis(proposal: VolumeProposal) -> str:
    axis, theirs = proposal.slice_axis, proposal.nnunet.axes[0]
    text = f"Slices are {_CUTS[axis]}, across {AXES[axis]}"
    if theirs != axis:
        return f"{text}; nnU-Net would cut {_CUTS[theirs]} ones, whose spacing is larger by less than 5 %."
    return (
        f"{text}, the axis of the largest spacing." if max(proposal.target_mm) > min(proposal.target_mm) else f"{text}."
    )


def _explain_intensity(fingerprint: VolumeFingerprint) -> list[str]:
    lines = []
    for channel, own in zip(fingerprint.channels, fingerprint.statistics, strict=True):
        if is_ct(channel):
            lines.append(
                f"{channel}: clipped to {own.percentile_00_5:g} and {own.percentile_99_5:g}, minus {own.mean:.4g}, "
                f"over {own.std:.4g}: of the training foreground, as nnU-Net does."
            )
    others = [channel for channel in fingerprint.channels if not is_ct(channel)]
    if others:
        text = f"{', '.join(others)}: minus the mean of each volume, over its standard deviation, as nnU-Net does"
        if fingerprint.kept < _MASKED_SHARE:
            text += "; nnU-Net would take those of the non-zero voxels, since cropping leaves less than 75 %"
        lines.append(f"{text}.")
    return lines


def by(sides: Sequence[float]) -> str:
    """Join sizes: `20x512x512`; halves are kept."""
    return "x".join(f"{side:g}" for side in sides)


def mm(spacing: Sequence[float]) -> str:
    """Join spacings: `5 x 0.75 x 0.75 mm`."""
    return " x ".join(f"{side:.4g}" for side in spacing) + " mm"
