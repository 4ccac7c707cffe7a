"""Folders of `guidino report`: runs, evaluations of their masks, and scores of their guides."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from guidino_cli.config import RunConfig
from guidino_cli.data.manifest import Manifest, load_manifest, manifest_sha256
from guidino_cli.engine.run_folders import read_history
from guidino_cli.engine.runs.facts import FACTS_FILE, read_run_facts
from guidino_cli.engine.runs.settings import read_run_config
from guidino_cli.errors import ConfigError, DataError, UserError
from guidino_cli.evaluation.stored import REPORT_FILE, StoredEvaluation, read_evaluation
from guidino_cli.json_files import read_json_object, require_type

GUIDES_FILE = "guides.json"
_SET_FILE = "runs.json"


@dataclass(frozen=True)
class ReportedRun:
    """A run folder, read.

    Attributes:
        name: For tables, unique in the report.
        path: Path of the folder.
        config: Its settings.
        facts: Its `run.json`.
        history: A row for each epoch.
    """

    name: str
    path: Path
    config: RunConfig
    facts: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The epoch with the best validation Dice, whose weights were kept; None before the first validation."""
        measured = [row for row in self.history if isfinite(row.get("val_dice", nan))]
        return max(measured, key=lambda row: row["val_dice"]) if measured else None


@dataclass(frozen=True)
class ReportedData:
    """The prepared data of one or more runs.

    Attributes:
        runs: Names of the runs.
        folder: As the runs recorded it.
        sha256: SHA-256 of its `cases.json` when they were trained.
        manifest: What is there now; None if it cannot be read.
        state: What is known of it, in words.
    """

    runs: list[str]
    folder: Path
    sha256: str
    manifest: Manifest | None
    state: str


class _MeanIou(TypedDict):
    mean: dict[str, float | None]


class _GuideMap(TypedDict):
    guide: str
    map: str
    images: int
    auroc: dict[str, float | None]
    iou: _MeanIou


class _Guides(TypedDict):
    maps: list[_GuideMap]
    run: NotRequired[str]


@dataclass(frozen=True)
class ReportedGuides:
    """Output of `guidino visualize-guide`.

    Attributes:
        path: Path of the folder.
        content: Of its `guides.json`.
    """

    path: Path
    content: Mapping[str, Any]


@dataclass
class ReportInputs:
    """All folders of a report, in their order."""

    runs: list[ReportedRun] = field(default_factory=list)
    evaluations: list[StoredEvaluation] = field(default_factory=list)
    guides: list[ReportedGuides] = field(default_factory=list)


def read_inputs(folders: Sequence[Path]) -> ReportInputs:
    """Read runs, evaluations and guides; which is which is seen from their files.

    Raises:
        ConfigError: No run is among them, or a folder is named twice.
        DataError: A folder is none of these, or is damaged.
    """
    found, seen = ReportInputs(), dict[Path, Path]()
    paths = [member for folder in folders for member in _members(folder)]
    for path in paths:
        if path.resolve() in seen:
            raise ConfigError(f"{path}: named twice; leave one out")
        seen[path.resolve()] = path
    kinds = [(_kind(path), path) for path in paths]
    names = unique_names([path for _, path in kinds])
    for (kind, path), name in zip(kinds, names, strict=True):
        if kind == "run":
            found.runs.append(_read_run(path, name))
        elif kind == "evaluation":
            found.evaluations.append(read_evaluation(path, name=name))
        else:
            content = read_json_object(path / GUIDES_FILE, hint="draw the guides again")
            require_type(content, _Guides, source=path / GUIDES_FILE, hint="draw the guides again")
            found.guides.append(ReportedGuides(path, content))
    if not found.runs:
        raise ConfigError(
            f"{', '.join(map(str, folders))}: no run among them; name the run folder first, as in "
            "`guidino report RUN EVALUATION -o report.html`"
        )
    return found


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Names of folders: their own, with as many of the folders above as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]


def _members(folder: Path) -> list[Path]:
    """The runs of a set that `train --seeds` or `--folds` made; the folder itself if it is no set."""
    if not (folder / _SET_FILE).is_file() or (folder / FACTS_FILE).is_file():
        return [folder]
    members = sorted(path for path in folder.iterdir() if (path / FACTS_FILE).is_file())
    if not members:
        raise DataError(f"{folder}: a set of runs of which none has begun; train it first")
    return members


def _kind(path: Path) -> str:
    """Kind of a folder."""
    if not path.exists():
        raise DataError(f"{path}: no such folder")
    if (path / FACTS_FILE).is_file() and (path / "config.yaml").is_file():
        return "run"
    if (path / GUIDES_FILE).is_file():
        return "guides"
    if (path / REPORT_FILE).is_file():
        return "evaluation"
    raise DataError(
        f"{path}: expected a run (config.yaml, run.json), an evaluation (report.json, of `guidino evaluate -o`) or "
        "guides (guides.json, of `guidino visualize-guide --run RUN -o`)"
    )


def _read_run(path: Path, name: str) -> ReportedRun:
    history = read_history(path / "history.jsonl", counter="epoch")
    return ReportedRun(name, path, read_run_config(path), read_run_facts(path), history)


def read_data(runs: Sequence[ReportedRun]) -> list[ReportedData]:
    """The data of the runs; runs of the same data share an entry."""
    found: dict[str, ReportedData] = {}
    for run in runs:
        recorded = run.facts["data"]
        if recorded["sha256"] in found:
            found[recorded["sha256"]].runs.append(run.name)
            continue
        cases = Path(recorded["cases"])
        manifest, state = _read_manifest(cases, recorded["sha256"])
        found[recorded["sha256"]] = ReportedData([run.name], cases.parent, recorded["sha256"], manifest, state)
    return list(found.values())


def _read_manifest(cases: Path, sha256: str) -> tuple[Manifest | None, str]:
    try:
        if not cases.is_file():
            return None, "not on this machine"
        manifest = load_manifest(cases.parent, takes_instances=True)
        is_same = manifest_sha256(cases) == sha256
    except (UserError, OSError) as error:
        return None, f"cannot be read now: {error}"
    changed = "prepared anew since the training: what follows is what is there now"
    return manifest, "as it was when the run was trained" if is_same else changed
