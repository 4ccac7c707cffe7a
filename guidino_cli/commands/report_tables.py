"""Tables of `guidino report` with a column for each run: settings and environment."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from guidino_cli.commands.report_inputs import ReportedRun
from guidino_cli.config import FinetuneSettings, GuideSettings, LoraSettings, RunConfig
from guidino_cli.settings import list_settings

Row = tuple[str, list[str], bool]
"""Heading, a cell for each run, and whether the runs differ in it."""
_NONE = "-"
_EMPTY = ("null", "{}", "[]")
# They are shown elsewhere on the page, or are no settings of a network.
_LEFT_OUT = {"description", "paper", "data.root"}


def settings_table(runs: Sequence[ReportedRun]) -> list[Row]:
    """Settings that are not the default in some run, in the order of their declaration.

    Of a section that may be null, such as the guide, the defaults are those of the section; "-" is shown for a run that
    does not have it.
    """
    defaults = {place: text for section in _sections() for place, text in section}
    columns = [dict(_leaves(asdict(run.config))) for run in runs]
    rows = []
    for path in sorted({path for column in columns for path in column}, key=_order()):
        cells = [column.get(path, _NONE) for column in columns]
        if path in _LEFT_OUT or set(cells) <= {_NONE, *_EMPTY, defaults.get(path, _NONE)}:
            continue
        rows.append((path, cells, len(set(cells)) > 1))
    return rows


def _sections() -> Iterator[Iterator[tuple[str, str]]]:
    yield _leaves(asdict(RunConfig()))
    parts = (("guide", GuideSettings()), ("lora", LoraSettings()), ("finetune", FinetuneSettings()))
    for name, section in parts:
        yield _leaves(asdict(section), f"model.{name}.")


def _order() -> Callable[[str], tuple[int, str]]:
    """Sort key: paths in the order of their declaration; options of a part, which are declared nowhere, by name."""
    places = {path: index for index, path in enumerate(list_settings(RunConfig))}

    def key(path: str) -> tuple[int, str]:
        known = path
        while known and known not in places:
            known = known.rpartition(".")[0]
        return places.get(known, len(places)), path

    return key


def environment_table(runs: Sequence[ReportedRun]) -> list[Row]:
    """Rows of the environment recorded in the runs: program, packages, weights and size."""
    columns = [dict(_environment(run)) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    cells = ((name, [column.get(name, _NONE) for column in columns]) for name in names)
    return [(name, values, len(set(values)) > 1) for name, values in cells]


def _environment(run: ReportedRun) -> Iterator[tuple[str, str]]:
    facts = run.facts
    yield "run folder", str(run.path)
    yield "guidino", str(facts.get("guidino", _NONE)) + (f", commit {facts['git']}" if facts.get("git") else "")
    yield "Python", str(facts.get("python", _NONE))
    packages = facts.get("packages")
    if isinstance(packages, Mapping):
        yield from ((str(name), str(version)) for name, version in packages.items())
    precision = facts.get("precision")
    if isinstance(precision, Mapping):
        yield "precision", ", ".join(f"{key} {_precision(value)}" for key, value in precision.items())
    parameters = facts.get("parameters")
    if isinstance(parameters, list) and [type(item) for item in parameters] == [int, int]:
        yield "parameters: trained, all", f"{parameters[0]:,}, {parameters[1]:,}"
    backbone = facts.get("backbone")
    if isinstance(backbone, Mapping):
        yield "backbone", str(backbone.get("weights", _NONE))
        yield "its SHA-256", str(backbone.get("sha256", _NONE))[:16]
        yield "its licence", str(backbone.get("licence", _NONE))
    origin = facts.get("origin")
    if isinstance(origin, Mapping):
        yield "started from", str(origin.get("run", _NONE))


def _precision(value: Any) -> str:
    return "full" if value == "no" else str(value)


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", _format(value)


def _format(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_format, value))}]"
    return str(value)
