"""Are the runs that a folder holds already those of the set?"""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from guidino_cli.commands.sets.plan import SETTINGS, Over, Plan, origin_of
from guidino_cli.config import RunConfig, load_config, override, parse
from guidino_cli.data.manifest import FILE_NAME as MANIFEST
from guidino_cli.errors import ConfigError, DataError


def require_alike(out: Path, plan: Plan, text: str | None) -> None:
    """Refuse runs that exist with other settings than those of the set, seed or fold apart, or of other data.

    Args:
        out: The set's folder.
        plan: Of the set.
        text: Content of `settings.yaml`; None where every run begins with one of `plan.origin`.

    Raises:
        ConfigError: The message names the run.
    """
    for value in plan.values:
        folder = out / plan.name(value)
        if not (folder / "config.yaml").is_file():
            continue
        config = load_config(folder / "config.yaml")
        found = config.seed if plan.over == "seed" else config.data.fold
        if found != value:
            raise ConfigError(f"{folder}: was trained with {plan.over} {found}; choose another -o, or --overwrite")
        if _comparable(config, plan.over) != _comparable(_planned(plan, text, value), plan.over):
            raise ConfigError(f"{folder}: was trained with other settings than the set's; choose another -o")
        _require_same_beginning(folder, plan, value)


def _planned(plan: Plan, text: str | None, value: int) -> RunConfig:
    """What a run of the set is trained with."""
    origin = origin_of(plan, value)
    if origin is not None:
        config = load_config(origin / "config.yaml")
    elif text is not None:
        config = parse(yaml.safe_load(text), label=SETTINGS)
    else:
        raise DataError(f"{SETTINGS} is missing from the set; begin it again with --overwrite")
    if plan.command != "lora-tune":
        return config
    words = [word for flag, word in pairwise(plan.settings) if flag == "--set"]
    frozen = ["train.freeze_heads=true"] if "--freeze-heads" in plan.settings else []
    return override(config, [*([] if config.model.lora else ["model.lora={}"]), *words, *frozen])


def _comparable(config: RunConfig, over: Over) -> RunConfig:
    """Without the description, which LoRA adds to, and the place of the data, which may be moved."""
    data = replace(config.data, root=None)
    if over == "seed":
        return replace(config, description="", data=data, seed=0)
    return replace(config, description="", data=replace(data, fold=None))


def _require_same_beginning(folder: Path, plan: Plan, value: int) -> None:
    """The same cases, and the same weights of the run that `lora-tune` began with; by their hashes."""
    path = folder / "run.json"
    if not path.is_file():
        return
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        known = {"cases": facts["data"]["sha256"], "weights": facts.get("origin", {}).get("sha256")}
    except (ValueError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: damaged ({type(error).__name__}: {error}); remove {folder} to train it again"
        ) from error
    origin = origin_of(plan, value)
    files = {} if origin is None else {"weights": origin / "best" / "model.safetensors"}
    if "--data" in plan.place:
        files["cases"] = Path(plan.place[plan.place.index("--data") + 1]) / MANIFEST
    for kind, file in files.items():
        if file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() != known[kind]:
            raise ConfigError(f"{folder}: was trained with other {kind} than {file}; choose another -o")
