"""What is here, what is missing, and whether it works: said piece by piece, so that a crash shows where it happened."""

import importlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.table import Table

from guidino_cli.commands.health.facts import missing_packages, part_facts, system_facts
from guidino_cli.errors import DependencyError, ResourceError, UserError
from guidino_cli.progress import say


def run(*, as_json: bool, self_test: bool) -> None:
    """Print what is known without torch, then what torch says, then how the self-test went.

    Raises:
        DependencyError: A package that guidino requires is missing.
        ResourceError: The temporary folder cannot be written.
        UserError: The self-test met it; another exception of it is passed on as it is.
    """
    facts: dict[str, Any] = {"system": system_facts(), **part_facts()}
    if not as_json:
        _show_first(facts)
    missing = missing_packages()
    if missing:
        _end(facts, as_json, DependencyError(f"missing: {', '.join(missing)}; pip install {' '.join(missing)}"))
    if not facts["places"]["temporary"]["writable"]:
        place = facts["places"]["temporary"]["path"]
        _end(facts, as_json, ResourceError(f"{place}: cannot be written; point TMPDIR at a folder that can"))
    # Imported here: it takes seconds, and where it fails the lines above say with what.
    importlib.import_module("torch")
    from guidino_cli.commands.health.facts import torch_facts

    facts["torch"] = torch_facts()
    if not as_json:
        _table(_torch_rows(facts["torch"], facts["system"]))
    if self_test:
        _try(facts, as_json)
    _end(facts, as_json, None)


def _try(facts: dict[str, Any], as_json: bool) -> None:
    from guidino_cli.commands.health.self_test import self_test

    say("self-test: trains, predicts and evaluates on made-up images")
    try:
        seconds = asdict(self_test())
    except UserError as error:
        _end(facts, as_json, type(error)(f"the self-test failed: {error}"))
    except Exception as error:
        facts["self_test"] = None
        _end(facts, as_json, error)
    else:
        facts["self_test"] = seconds
        if not as_json:
            _table({"self-test": "ok: " + ", ".join(f"{part} {time:.1f} s" for part, time in seconds.items())})


def _end(facts: Mapping[str, Any], as_json: bool, error: Exception | None) -> None:
    """Print the JSON, if it is wanted, and raise what was found wrong."""
    if as_json:
        print(json.dumps({**facts, "error": None if error is None else str(error)}, indent=2, ensure_ascii=False))
    if error is not None:
        raise error
    if not as_json:
        print("guidino works here")


def _show_first(facts: Mapping[str, Any]) -> None:
    system = facts["system"]
    packages = ", ".join(f"{name} {version or 'MISSING'}" for name, version in system["packages"].items())
    memory = "unknown" if system["memory_gb"] is None else f"{system['memory_gb']} GB"
    here = [name for name, place in facts["weights"].items() if place]
    extras = ", ".join(f"{name} {'yes' if there else 'no'}" for name, there in facts["extras"].items())
    threads = system["OMP_NUM_THREADS"] or "not set"
    rows = {
        "guidino": system["guidino"],
        "python": system["python"],
        "system": system["system"],
        "processor": f"{system['cores']} cores for us, OMP_NUM_THREADS {threads}, memory {memory}",
        "packages": packages,
        "extras": extras,
        "evaluate": "compiled kernel" if facts["kernel"] else "no compiled kernel: same results, slower distances",
        "weights": ", ".join(here) or "none here: guidino weights list",
        "hub": "offline (HF_HUB_OFFLINE)" if facts["offline"] else "may be asked; --offline forbids it",
    }
    for name, place in facts["places"].items():
        state = "writable" if place["writable"] else "NOT WRITABLE"
        rows[name] = f"{state}, {place['free_gb']} GB free, {place['path']}"
    _table(rows)


def _torch_rows(torch: Mapping[str, Any], system: Mapping[str, Any]) -> dict[str, str]:
    cards = [
        f"{card['name']}, {card['memory_gb']} GB, {'bf16' if card['bf16'] else 'no bf16: fp16'}"
        for card in torch["cuda"]
    ]
    units = ", ".join(torch["bf16_units"]) or "none: bf16 would be slow here"
    rows = {
        "torch": f"{torch['build']}, {torch['threads']} threads, {torch['cpu']}",
        "bf16 on CPU": units,
        "GPU": "; ".join(cards) or ("MPS" if torch["mps"] else "none: training takes its time"),
    }
    if torch["threads"] > system["cores"]:
        rows["threads"] = f"more than the {system['cores']} cores: set OMP_NUM_THREADS={system['cores']}"
    return rows


def _table(rows: Mapping[str, str]) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(width=13, no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        table.add_row(name, str(value))
    Console(highlight=False).print(table)
