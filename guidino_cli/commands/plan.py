"""`guidino plan`: propose settings for a data set by nnU-Net's rules, with the reasons."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.plan_volumes import run_on_volumes
from guidino_cli.data.manifest import load_manifest
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.files import write_text
from guidino_cli.options.data import PlanOptions
from guidino_cli.outputs import require_output_file
from guidino_cli.planning.fingerprint import DatasetFingerprint, extract_fingerprint
from guidino_cli.planning.proposal import PlanProposal, explain_proposal, format_preset, propose_plan
from guidino_cli.planning.rules import ENCODERS
from guidino_cli.progress import log_info, progress_bar
from guidino_cli.types import width_by_height


def run(data: Path, options: PlanOptions) -> None:
    """Print the fingerprint of the training cases and the proposed settings, and write the preset.

    Raises:
        ConfigError: Unknown encoder, or the file exists.
        DataError: Not a prepared folder, or no labelled training case.
    """
    out = options.out
    if options.encoder not in ENCODERS:
        raise ConfigError(unknown_name("encoder", options.encoder, ENCODERS))
    if out is not None and out.suffix not in {".yaml", ".yml"}:
        raise ConfigError(f"{out}: a preset is a .yaml file; give one, such as -o {out.with_suffix('.yaml')}")
    if out is not None:
        require_output_file(out, overwrite=options.overwrite)
    manifest = load_manifest(data)
    if manifest.is_volumes:
        run_on_volumes(data, manifest, options)
        return
    if options.dims == 3:
        raise ConfigError("--dims 3 is for volumes, and the data has images; leave it out")
    cases = manifest.select("train", options.fold)
    with progress_bar() as bar:
        task = bar.add_task("reading", total=len(cases), note="")
        fingerprint = extract_fingerprint(cases, manifest.classes, done=lambda: bar.advance(task))
    proposal = propose_plan(fingerprint, encoder=options.encoder, budget_gb=options.gpu_gb, steps=options.steps)
    text = format_preset(proposal, fingerprint, name=manifest.name)
    if options.as_json:
        print(json.dumps(_to_json(fingerprint, proposal), indent=2, ensure_ascii=False))
    else:
        _print_plan(fingerprint, proposal, name=manifest.name)
    if out is not None:
        write_text(out, text)
        log_info(f"wrote {out}; next: guidino train --preset {out} --data {data} -o RUN")
    elif not options.as_json:
        preset = [line for line in text.splitlines() if not line.startswith("#")]
        print("\n" + "\n".join(preset))
        log_info(f"keep it: guidino plan {data} -o mine.yaml")


def _print_plan(fingerprint: DatasetFingerprint, proposal: PlanProposal, *, name: str) -> None:
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for title, text in _fingerprint_rows(fingerprint).items():
        table.add_row(title, text)
    console.print(table)
    if fingerprint.classes:
        console.print(_class_table(fingerprint))
    console.print()
    for line in explain_proposal(proposal, fingerprint, name=name):
        console.print(line)


def _fingerprint_rows(fingerprint: DatasetFingerprint) -> dict[str, str]:
    low, high = (_format_channels(level, fingerprint.is_grey) for level in fingerprint.percentiles)
    sizes = [width_by_height(size) for size in (fingerprint.median_hw, fingerprint.smallest_hw, fingerprint.largest_hw)]
    return {
        "training cases": str(fingerprint.cases),
        "width x height, px": f"median {sizes[0]}, smallest {sizes[1]}, largest {sizes[2]}",
        "colours": "grey" if fingerprint.is_grey else "red, green, blue",
        "foreground mean": _format_channels(fingerprint.mean, fingerprint.is_grey) + " of 255",
        "foreground deviation": _format_channels(fingerprint.deviation, fingerprint.is_grey),
        "0.5 to 99.5 %": f"{low} to {high}",
    }


def _format_channels(values: tuple[float, float, float], is_grey: bool) -> str:
    return ", ".join(f"{value:.0f}" for value in (values[:1] if is_grey else values))


def _class_table(fingerprint: DatasetFingerprint) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("class")
    for title in ("in cases", "median share", "smallest share"):
        table.add_column(title, justify="right", no_wrap=True)
    for item in fingerprint.classes:
        table.add_row(item.name, f"{item.cases} of {fingerprint.cases}", f"{item.share:.2%}", f"{item.smallest:.3%}")
    return table


def _to_json(fingerprint: DatasetFingerprint, proposal: PlanProposal) -> dict[str, Any]:
    return {"fingerprint": asdict(fingerprint), "proposal": asdict(proposal)}
