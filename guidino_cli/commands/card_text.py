"""The model card: README.md of a model folder, with the metadata that the Hugging Face hub reads at its head."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from guidino_cli import __version__
from guidino_cli.commands.card_facts import CardFacts
from guidino_cli.commands.card_licences import Licence
from guidino_cli.commands.card_scores import CardScore, ScoreTable

_WHAT_IT_IS = (
    "It is a model for research. It is **not a medical device** and must not be used for diagnosis or treatment."
)


@dataclass(frozen=True)
class CardOptions:
    """Statements by the author of the model.

    Attributes:
        name: Title.
        licence: Identifier of the licence of the trained weights, None if not stated.
        dataset: Where the training data are from and under which terms, in words; "" if not stated.
        hub_name: Name on the hub, or None.
        usage: How to use it, where it is no run folder for `predict`.
    """

    name: str
    licence: str | None
    dataset: str
    hub_name: str | None
    usage: str | None = None


def write_card(facts: CardFacts, options: CardOptions) -> str:
    """The card as Markdown; the same facts give the same text."""
    metadata = yaml.safe_dump(_metadata(facts, options), sort_keys=False, allow_unicode=True, width=100)
    sections = [
        f"# {options.name}",
        f"{facts.sentence}\n\n{_WHAT_IT_IS}",
        _section("Classes", _table(["value in the mask", "class"], [[str(i), x] for i, x in enumerate(facts.classes)])),
        _section("How to use it", options.usage or _usage(facts, options)),
        _section("Training data", _list([*([options.dataset] if options.dataset else []), *facts.data])),
        _section("Training", _list(facts.training)),
        _section("Scores", _scores(facts.scores)),
        _section("Limits", _list(facts.limits)),
        _section("Licences", _licences(facts.licences, options)),
        f"*Written by guidino {__version__} from a run folder.*",
    ]
    return f"---\n{metadata}---\n\n" + "\n\n".join(sections) + "\n"


def _metadata(facts: CardFacts, options: CardOptions) -> dict[str, Any]:
    inside = next((item for item in facts.licences if item.is_restrictive), None)
    metadata: dict[str, Any] = {"library_name": "guidino", "pipeline_tag": "image-segmentation"}
    if inside is not None:
        metadata |= {"license": "other", "license_name": "dinov3-license", "license_link": inside.page}
    elif options.licence is not None:
        metadata["license"] = options.licence
    metadata["tags"] = ["guidino", "medical", "image-segmentation", *facts.tags]
    if facts.base_model:
        metadata["base_model"] = facts.base_model
    results = [
        {
            "task": {"type": "image-segmentation"},
            "dataset": {"name": table.dataset, "type": table.dataset_type},
            "metrics": [
                {"type": score.metric, "name": _score_name(score), "value": score.mean}
                for score in table.scores
                if score.mean is not None
            ],
        }
        for table in facts.scores
    ]
    if any(result["metrics"] for result in results):
        metadata["metrics"] = list(dict.fromkeys(score.metric for table in facts.scores for score in table.scores))
        metadata["model-index"] = [{"name": options.name, "results": results}]
    return metadata


def _score_name(score: CardScore) -> str:
    unit = f" ({score.unit})" if score.unit else ""
    return f"{score.label}, {score.target}{unit}"


def _usage(facts: CardFacts, options: CardOptions) -> str:
    place = f"hf:{options.hub_name}" if options.hub_name else "FOLDER"
    where = "" if options.hub_name else "`FOLDER` is the folder of this file. "
    steps = [
        f"With guidino {facts.guidino} or newer installed:",
        f"```bash\nguidino predict {place} images/ -o masks/\n```",
        "```python\nfrom guidino_cli import load_run\n\n"
        f'mask, guide = load_run("{place}").predict("{facts.example}")\n```',
        f"{where}Masks have the size, or the grid, of their source. {facts.needs}".strip(),
    ]
    return "\n\n".join(steps)


def _scores(tables: Sequence[ScoreTable]) -> str:
    if not tables:
        return "None were measured: nothing is known about how good its masks are on images that it was not trained on."
    parts = []
    for table in tables:
        rows = [[_score_name(score), score.value, score.interval, score.count] for score in table.scores]
        parts.append(
            f"**{table.title}**\n\n{_table(['score', 'mean', '95 % interval', 'cases'], rows)}\n\n{table.note}"
        )
    return "\n\n".join(parts)


def _licences(licences: Sequence[Licence], options: CardOptions) -> str:
    has_restriction = any(item.is_restrictive for item in licences)
    own = (
        "the weights here may be passed on only under the licence of what they derive from, see below"
        if has_restriction
        else f"the weights here: {options.licence}"
        if options.licence is not None
        else "the weights here: their author has stated no licence"
    )
    return _list([own, *(item.text for item in licences), "the training data have terms of their own"])


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _list(items: Sequence[str]) -> str:
    """The name of the program begins with a small letter wherever it stands."""
    return "\n".join(f"- {item if item.startswith('guidino') else item[:1].upper() + item[1:]}" for item in items)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(names), ["---"] * len(names), *([_cell(item) for item in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
