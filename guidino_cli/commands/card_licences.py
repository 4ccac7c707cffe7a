"""Licences of what a run's weights derive from, as sentences for its model card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.config import RunConfig
from guidino_cli.models.pretrained.catalogue import LICENCE_PAGES, RESTRICTIVE_LICENCES

_ONLY_UNDER_IT = "they may be passed on only under that licence, together with a copy of it"
_NOT_HERE = (
    "those weights are not in this folder; who runs the model needs them and accepts that licence, which also says "
    "what derived works are"
)


@dataclass(frozen=True)
class Licence:
    """Licence of something that the trained weights derive from, or need.

    Attributes:
        text: One sentence.
        page: Where its text is, "" if unknown.
        is_restrictive: Whether the trained weights may be passed on only under it.
    """

    text: str
    page: str = ""
    is_restrictive: bool = False


def find_licences(config: RunConfig, facts: dict[str, Any], *, holds_backbone: bool) -> list[Licence]:
    """Licences of the backbone and of weights that the segmenter began with; of random weights there are none.

    Args:
        config: Settings of the run.
        facts: Its `run.json`.
        holds_backbone: Whether a frozen backbone is passed on, too.
    """
    found = [] if not facts["backbone"] else _of_backbone(config, facts, holds_backbone=holds_backbone)
    options = config.model.segmenter.options
    sources = [name_source(str(options["weights"]))] if options.get("weights") else []
    if config.model.segmenter.name.startswith("smp:") and options.get("encoder_weights"):
        sources.append(f"the encoder {options['encoder_weights']}")
    return [
        *found,
        *(Licence(f"the weights here began with {source}; its licence is stated at its source") for source in sources),
    ]


def name_source(weights: str) -> str:
    """A source of weights without the folders of this machine."""
    return Path(weights).name if weights.startswith(("/", "~")) else weights


def _of_backbone(config: RunConfig, facts: dict[str, Any], *, holds_backbone: bool) -> list[Licence]:
    identity = facts["backbone"]
    licence = identity.get("licence")
    if not licence:
        return []
    # Trained as a whole, or adapted: the weights of the run are then made from those of the backbone.
    inside = "blueprint" in facts or config.model.lora is not None
    page = LICENCE_PAGES.get(licence, "")
    inside = inside or holds_backbone
    relation = "the weights here derive from" if inside else "the weights here were trained on features of"
    text = f"{relation} {name_source(identity['weights'])}, licence: {f'[{licence}]({page})' if page else licence}"
    is_restrictive = licence in RESTRICTIVE_LICENCES
    if is_restrictive:
        text += f"; {_ONLY_UNDER_IT if inside else _NOT_HERE}"
    return [Licence(text, page, is_restrictive=inside and is_restrictive)]
