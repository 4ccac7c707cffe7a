"""Recipe of a benchmark: its backbones, its tasks, and figures of a paper; read from YAML and checked key by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidino_cli.commands.bench.keys import HINT, read_mapping, read_section, read_text, require_names
from guidino_cli.commands.bench.paper import PaperFigures, read_paper
from guidino_cli.commands.bench.task_options import (
    KINDS,
    PROBE_KINDS,
    REGISTRATION_METRICS,
    TaskKind,
    default_of,
    option_names,
    read_option,
)
from guidino_cli.config import recipes_folder
from guidino_cli.errors import ConfigError, UserError, unknown_name
from guidino_cli.evaluation.probes.scores import METRIC_NAMES
from guidino_cli.models import BACKBONES
from guidino_cli.options.parsing import split_names
from guidino_cli.settings import find_preset, list_presets
from guidino_cli.yaml_files import read_yaml

_TOP = ("description", "backbones", "tasks")
_BACKBONE = ("name", "weights", "layers")
_TASK = ("kind", "title", "data", "metric", "backbones", "controls", "paper")
_DECODER = ("preset", "set")


@dataclass(frozen=True)
class BenchBackbone:
    """A backbone of a recipe.

    Attributes:
        label: What tables call it.
        name: Of the registered backbone.
        weights: Folder, file or hub id; None for its own.
        layers: Blocks that a decoder reads; None for the preset's, spread over the depth of this network.
    """

    label: str
    name: str
    weights: str | None = None
    layers: tuple[int, ...] | None = None


@dataclass(frozen=True)
class BenchTask:
    """A task of a recipe.

    Attributes:
        name: Of its folder.
        kind: Which command computes it.
        title: For tables.
        data: What the command is given.
        metric: The one that tables show and compare.
        backbones: Labels of those that are tried.
        controls: Whether random networks are computed, too.
        options: Of the command, as given.
        preset: Of a decoder.
        overrides: `a.b=c` settings of a decoder.
        paper: Figures of others.
    """

    name: str
    kind: TaskKind
    title: str
    data: Path
    metric: str
    backbones: tuple[str, ...]
    controls: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    overrides: Mapping[str, Any] = field(default_factory=dict)
    paper: PaperFigures | None = None


@dataclass(frozen=True)
class Recipe:
    """A benchmark.

    Attributes:
        path: File that it was read from.
        description: A line for people.
        backbones: By label.
        tasks: In order.
    """

    path: Path
    description: str
    backbones: Mapping[str, BenchBackbone]
    tasks: Sequence[BenchTask]


def recipe_names() -> list[str]:
    """Names of the packaged recipes, sorted."""
    return list_presets(recipes_folder())


def read_recipe(given: str, *, data_root: Path | None = None) -> Recipe:
    """Read a recipe by path, or a packaged one by name.

    Args:
        given: As typed.
        data_root: Folder to which paths of data are relative; None for the recipe's own, or the current one where the
            recipe is packaged.

    Raises:
        ConfigError: No such recipe, or a key or value that cannot be; the message has the path of the key.
    """
    path = find_preset(given, recipes_folder(), kind="recipe")
    is_packaged = path.parent == recipes_folder()
    root = data_root or (Path() if is_packaged else path.parent)
    content = read_section(read_yaml(path, hint=HINT), f"{path}", "", _TOP)
    for name in ("backbones", "tasks"):
        if not content.get(name):
            raise ConfigError(f"{path}: {name}: must be given, such as {_EXAMPLES[name]}; {HINT}")
    backbones = _read_backbones(content["backbones"], path)
    given_tasks = read_mapping(content["tasks"], path, "tasks", _EXAMPLES["tasks"])
    require_names(given_tasks, path, "tasks")
    tasks = [_read_task(name, value, backbones, path, root) for name, value in given_tasks.items()]
    return Recipe(path, read_text(content.get("description", ""), path, "description"), backbones, tasks)


_EXAMPLES = {
    "backbones": "[guidino-tiny] or {small: {name: dinov3, weights: FOLDER}}",
    "tasks": "{chest: {kind: linear, data: chest.csv}}",
}


def _read_backbones(value: Any, path: Path) -> dict[str, BenchBackbone]:
    if isinstance(value, list):
        names = [read_text(item, path, f"backbones.{number}") for number, item in enumerate(value)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"{path}: backbones: '{twice[0]}' is given twice")
        value = {name: {} for name in names}
    found = read_mapping(value, path, "backbones", _EXAMPLES["backbones"])
    require_names(found, path, "backbones")
    return {label: _read_backbone(label, item, path) for label, item in found.items()}


def _read_backbone(label: str, value: Any, path: Path) -> BenchBackbone:
    place = f"backbones.{label}"
    content = read_section({} if value is None else value, f"{path}", place, _BACKBONE)
    name = read_text(content.get("name", label), path, f"{place}.name")
    if name not in BACKBONES:
        key = f"{place}.name" if "name" in content else place
        raise ConfigError(f"{path}: {key}: {unknown_name('backbone', name, BACKBONES)}")
    weights = content.get("weights")
    layers = content.get("layers")
    is_layers = isinstance(layers, list) and all(type(item) is int and item > 0 for item in layers) and layers
    if layers is not None and not is_layers:
        raise ConfigError(
            f"{path}: {place}.layers: expected blocks counted from 1, such as [3, 6, 9, 12], found {layers!r:.80}"
        )
    return BenchBackbone(
        label,
        name,
        None if weights is None else read_text(weights, path, f"{place}.weights"),
        None if layers is None else tuple(layers),
    )


def _read_task(name: str, value: Any, backbones: Mapping[str, BenchBackbone], path: Path, root: Path) -> BenchTask:
    place = f"tasks.{name}"
    kind = _read_kind(value, path, place)
    own = [*_TASK, *(_DECODER if kind == "decoder" else ()), *option_names(kind)]
    _require_own_options(value, own, kind, f"{path}: {place}")
    content = read_section(value, f"{path}", place, own)
    for key in ("data", *(("preset",) if kind == "decoder" else ())):
        if content.get(key) in (None, ""):
            raise ConfigError(f"{path}: {place}.{key}: must be given; {HINT}")
    options = {}
    for key in option_names(kind):
        if content.get(key) is not None:
            try:
                options[key] = read_option(kind, key, content[key])
            except UserError as error:
                raise ConfigError(f"{path}: {place}.{key}: {error}") from error
    known = _metrics_of(kind, options)
    metric = read_text(content.get("metric", known[0]), path, f"{place}.metric")
    if metric not in known:
        raise ConfigError(f"{path}: {place}.metric: {unknown_name('metric', metric, known)}")
    controls = content.get("controls", True)
    if not isinstance(controls, bool):
        raise ConfigError(f"{path}: {place}.controls: expected true or false, found {controls!r:.80}")
    overrides = read_mapping(content.get("set") or {}, path, f"{place}.set", "{train.epochs: 20}")
    return BenchTask(
        name=name,
        kind=kind,
        title=read_text(content.get("title", name), path, f"{place}.title"),
        data=root / read_text(content["data"], path, f"{place}.data"),
        metric=metric,
        backbones=_read_choice(content.get("backbones"), backbones, path, f"{place}.backbones"),
        controls=controls,
        options=options,
        preset=read_text(content.get("preset", ""), path, f"{place}.preset"),
        overrides=overrides,
        paper=read_paper(content.get("paper"), path, f"{place}.paper"),
    )


def _require_own_options(value: Mapping[Any, Any], own: Sequence[str], kind: TaskKind, where: str) -> None:
    """`ConfigError` for an option of another kind of task, which is spelled correctly."""
    for key in value:
        kinds = [other for other in KINDS if key in option_names(other)]
        if key not in own and kinds:
            once = "; a decoder is trained once, on the split of its folder" if kind == "decoder" else ""
            raise ConfigError(f"{where}.{key}: is for {', '.join(kinds)}, and not for {kind}{once}")


def _read_kind(value: Any, path: Path, place: str) -> TaskKind:
    if not isinstance(value, dict) or value.get("kind") is None:
        raise ConfigError(f"{path}: {place}.kind: must be given: {', '.join(KINDS)}")
    for kind in KINDS:
        if value["kind"] == kind:
            return kind
    raise ConfigError(f"{path}: {place}.kind: {unknown_name('kind of task', str(value['kind']), KINDS)}")


def _metrics_of(kind: TaskKind, options: Mapping[str, Any]) -> list[str]:
    """Metrics that a task has, the one shown by default first."""
    if kind in PROBE_KINDS:
        return list(METRIC_NAMES)
    if kind == "registration":
        return list(REGISTRATION_METRICS)
    text = str(options.get("metrics") or default_of(kind, "metrics"))
    names = split_names(text)
    return ["dice", *(name for name in names if name != "dice")] if "dice" in names else names


def _read_choice(value: Any, backbones: Mapping[str, BenchBackbone], path: Path, place: str) -> tuple[str, ...]:
    if value is None:
        return tuple(backbones)
    if not isinstance(value, list) or not value:
        raise ConfigError(f"{path}: {place}: expected a list of backbones of the recipe, found {value!r:.80}")
    for item in value:
        if item not in backbones:
            raise ConfigError(f"{path}: {place}: {unknown_name('backbone of the recipe', str(item), backbones)}")
    if len(set(value)) < len(value):
        raise ConfigError(f"{path}: {place}: names a backbone twice")
    return tuple(value)
