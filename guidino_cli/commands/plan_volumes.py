"""`guidino plan` on volumes: a configuration for slices and one for patches, with the reasons."""

import json
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.spacing import KEEP, format_spacing
from guidino_cli.errors import DataError
from guidino_cli.files import write_text
from guidino_cli.options.data import PlanOptions
from guidino_cli.planning.volumes.explanation import (
    by,
    describe_topology,
    explain_configuration,
    explain_volumes,
    mm,
)
from guidino_cli.planning.volumes.fingerprint import VolumeFingerprint, extract_volume_fingerprint
from guidino_cli.planning.volumes.preset import format_volume_preset
from guidino_cli.planning.volumes.proposal import Configuration, VolumeProposal, propose_volume_plan
from guidino_cli.progress import log_info, progress_bar


def run_on_volumes(data: Path, manifest: Manifest, options: PlanOptions) -> None:
    """Print the fingerprint of the training volumes and both configurations, and write the preset of one.

    Raises:
        DataError: No labelled training volume, or volumes that are too small.
    """
    cases = manifest.select("train", options.fold)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=len(cases), note="")
        fingerprint = extract_volume_fingerprint(manifest, cases, done=lambda: bar.advance(task))
    proposal = propose_volume_plan(fingerprint, encoder=options.encoder, budget_gb=options.gpu_gb, steps=options.steps)
    chosen = _choose(proposal, options.dims, data)
    if options.as_json:
        content = {"fingerprint": asdict(fingerprint), "proposal": asdict(proposal)}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        _print_plan(fingerprint, proposal, options, name=manifest.name)
    if options.out is not None:
        write_text(options.out, format_volume_preset(proposal, chosen, fingerprint, name=manifest.name))
        train = f"guidino train --preset {options.out} --data"
        if chosen.prepare is None:
            log_info(f"wrote {options.out}; next: {train} {data} -o RUN")
        else:
            spacing = _spacing_option(chosen, fingerprint, options)
            log_info(f"wrote {options.out}, for data of another spacing: guidino prepare SOURCE -o DATA {spacing}")
            log_info(f"then: {train} DATA -o RUN")
    elif not options.as_json:
        other = "" if proposal.patches is None else ", or with --dims 2 for slices"
        log_info(f"keep it: guidino plan {data} -o mine.yaml{other}")


def _choose(proposal: VolumeProposal, dims: int | None, data: Path) -> Configuration:
    """The configuration that a preset file gets."""
    if dims == 3 and proposal.patches is None:
        raise DataError(f"{data}: its volumes have too few slices for a network in three dimensions; give --dims 2")
    return proposal.slices if dims == 2 or proposal.patches is None else proposal.patches


def _spacing_option(configuration: Configuration, fingerprint: VolumeFingerprint, options: PlanOptions) -> str:
    """The option of `prepare` that gives a configuration its spacing, "" if the data has it."""
    if configuration.prepare is None:
        return ""
    # `auto` applies the same rule to all training volumes.
    is_rule = configuration.dims == 3 and fingerprint.prepared_mm == KEEP and options.fold is None
    return "--spacing auto" if is_rule else f"--spacing {format_spacing(configuration.prepare)}"


def _print_plan(fingerprint: VolumeFingerprint, proposal: VolumeProposal, options: PlanOptions, *, name: str) -> None:
    console = Console(highlight=False)
    console.print(_class_table(fingerprint))
    console.print()
    for line in explain_volumes(proposal, fingerprint, name=name):
        console.print(line)
    console.print()
    found = [proposal.slices] if proposal.patches is None else [proposal.slices, proposal.patches]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    for configuration in found:
        table.add_column("2-D, slices" if configuration.dims == 2 else "3-D, patches")
    prepared = [_spacing_option(item, fingerprint, options) or "as prepared" for item in found]
    for title, *cells in _rows(proposal, found, prepared):
        table.add_row(title, *cells)
    console.print(table)
    for configuration in found:
        console.print()
        console.print(f"{configuration.dims}-D:", style="bold")
        for line in explain_configuration(proposal, configuration):
            console.print(line)
    if proposal.patches is None:
        console.print("Nothing in 3-D: the volumes have too few slices.")
    if proposal.meddinov3 is not None:
        console.print()
        console.print(
            f"For MedDINOv3's presets, at 896 px: --spacing {format_spacing(proposal.meddinov3)}, nnU-Net's "
            "2-D spacing times its patch / 896."
        )


def _rows(proposal: VolumeProposal, found: list[Configuration], prepared: list[str]) -> list[list[str]]:
    spacing = [proposal.target_mm[axis] for axis in proposal.axes]
    return [
        ["spacing", *(mm(spacing[3 - item.dims :]) for item in found)],
        ["data", *prepared],
        ["patch", *(by(item.patch) for item in found)],
        ["batch", *(str(item.network.batch_size) for item in found)],
        ["network", *("nnunet" if item.dims == 2 else "nnunet3d" for item in found)],
        ["", *(describe_topology(item) for item in found)],
        ["widths", *(", ".join(map(str, item.network.widths)) for item in found)],
        ["memory", *(f"about {item.memory_gb:.1f} GB" for item in found)],
        ["intensity", *("zscore" for _ in found)],
        ["steps", *(f"{proposal.epochs} x {proposal.steps_per_epoch}" for _ in found)],
    ]


def _class_table(fingerprint: VolumeFingerprint) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("class")
    for title in ("in volumes", "median share", "smallest share"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in fingerprint.classes:
        table.add_row(item.name, f"{item.cases} of {fingerprint.cases}", _percent(item.share), _percent(item.smallest))
    return table


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
