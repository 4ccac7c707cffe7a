"""Format a plan for volumes as a commented preset."""

from collections.abc import Sequence
from textwrap import wrap

from guidino_cli.planning.encoders import ENCODERS
from guidino_cli.planning.proposal import NNUNET_OPTIMISATION
from guidino_cli.planning.volumes.explanation import AXES, explain_configuration, explain_volumes
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint
from guidino_cli.planning.volumes.proposal import Configuration, VolumeProposal

_VALIDATE_EVERY = 10


def format_volume_preset(
    proposal: VolumeProposal, configuration: Configuration, fingerprint: VolumeFingerprint, *, name: str
) -> str:
    """Format one configuration as YAML with comments."""
    topology = configuration.network.topology
    blocks = ENCODERS[proposal.encoder].blocks[: topology.stages]
    options = [
        f"encoder: {proposal.encoder}",
        f"widths: {_flow(configuration.network.widths)}",
        f"blocks: {_flow(blocks)}",
    ]
    if configuration.dims == 3:
        options += [
            f"strides: [{', '.join(map(_flow, topology.strides))}]",
            f"kernels: [{', '.join(map(_flow, topology.kernels))}]",
        ]
        network, kind, size = "nnunet3d", "patches", [f"patch_size: {_flow(configuration.patch)}"]
    else:
        network, kind, size = "nnunet", "slices", [f"image_size: {configuration.patch[0]}", "resize: none"]
    reasons = [
        *explain_volumes(proposal, fingerprint, name=name),
        *explain_configuration(proposal, configuration),
        f"Validated every {_VALIDATE_EVERY} epochs, on whole volumes; nnU-Net looks at 50 patches after each.",
    ]
    return "\n".join(
        [
            *(
                line
                for reason in reasons
                for line in wrap(reason, initial_indent="# ", subsequent_indent="#   ", width=118)
            ),
            f"description: nnU-Net's plan on {kind} for {name}",
            "model:",
            "  segmenter:",
            f"    name: {network}",
            "    options:",
            *(f"      {option}" for option in options),
            "data:",
            f"  dims: {configuration.dims}",
            f"  slice_axis: {AXES[proposal.slice_axis]}",
            *(f"  {item}" for item in size),
            "  intensity: zscore",
            "  augment: nnunet",
            "  foreground_crops: 0.33",
            "train:",
            f"  epochs: {proposal.epochs}",
            f"  steps: {proposal.steps_per_epoch}",
            f"  batch_size: {configuration.network.batch_size}",
            f"  validate_every: {min(_VALIDATE_EVERY, proposal.epochs)}",
            *NNUNET_OPTIMISATION,
            "",
        ]
    )


def _flow(numbers: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, numbers)) + "]"
