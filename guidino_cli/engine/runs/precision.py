"""The precision that a run is trained, validated and predicted in: one decision, which `run.json` records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from guidino_cli.config import RunConfig
from guidino_cli.engine.devices import resolve_precision, resolve_prediction_precision
from guidino_cli.progress import log_warning


def precision_facts(config: RunConfig, *, device: str | None, used: torch.device) -> dict[str, str]:
    """Entry "precision" of `run.json`.

    Args:
        config: Settings of the run.
        device: That was requested.
        used: That is used.
    """
    training = resolve_precision(config.train.precision, device)
    wanted = config.predict.precision
    return {
        "training": training,
        "validation": resolve_prediction_precision(wanted, validated=training, device=used),
    }


def prediction_precision(config: RunConfig, facts: dict[str, Any], device: torch.device) -> str:
    """Precision to predict in with a run on a device: as it was validated, unless `predict.precision` says otherwise.

    Raises:
        ConfigError: `predict.precision` is fp16, which the device has not.
    """
    validated = facts.get("precision", {}).get("validation")
    return resolve_prediction_precision(config.predict.precision, validated=validated, device=device)


def note_missing_precision(
    run: Path, config: RunConfig, facts: dict[str, Any], device: torch.device
) -> dict[str, dict[str, str]]:
    """Say that a device lacks the precision that a run was validated in, and return that for the record of its masks.

    Returns:
        "precision" with both, as in `run.json`; nothing if the device has it, or `predict.precision` is set.
    """
    validated = facts.get("precision", {}).get("validation", "no")
    used = prediction_precision(config, facts, device)
    if config.predict.precision != "auto" or used == validated:
        return {}
    kind = {"cuda": "GPU", "cpu": "CPU"}.get(device.type, "device")
    log_warning(
        f"{run}: was validated in {validated}, which this {kind} does not have, so it predicts in full precision; "
        "masks differ by rounding"
    )
    return {"precision": {"validation": validated, "prediction": used}}


def keep_full_validation(config: RunConfig, recorded: dict[str, Any]) -> RunConfig:
    """The settings of a resumed run: one without a record is validated in full precision as before.

    Otherwise the best epoch would be chosen among scores of two precisions.
    """
    if "precision" in recorded or config.predict.precision != "auto":
        return config
    return replace(config, predict=replace(config.predict, precision="no"))


def warn_of_other_precision(recorded: dict[str, Any], now: dict[str, Any]) -> None:
    """Warn that a run that is resumed on another device changes its precision."""
    before, after = recorded.get("precision", {}), now["precision"]
    changed = [name for name in after if before.get(name, after[name]) != after[name]]
    if changed:
        what = " and ".join(f"{name} in {before[name]} becomes {after[name]}" for name in changed)
        log_warning(f"the run resumes in another precision than it started with: {what}; results differ by rounding")
