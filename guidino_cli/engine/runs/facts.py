"""`run.json`: which entries other commands rely on, and reading it; without torch."""

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from guidino_cli.engine.run_folders import read_facts
from guidino_cli.json_files import require_type

FACTS_FILE = "run.json"
FACTS_FORMAT = 1
# Raised when a name in `data.augment` changes its meaning; `keep_augmentation` then has to find what a run began with.
AUGMENTATION_REVISION = 2
_HINT = "the run is damaged, train it again"

_Channels = Annotated[list[float], Field(min_length=3, max_length=3)]


class _PrecisionFacts(TypedDict):
    training: Literal["no", "bf16", "fp16"]
    validation: Literal["no", "bf16", "fp16"]


class _DataFacts(TypedDict):
    cases: str
    sha256: str


class _BackboneFacts(TypedDict):
    weights: str
    sha256: str
    licence: NotRequired[str]
    mean: NotRequired[_Channels]
    std: NotRequired[_Channels]


class _OriginFacts(TypedDict):
    run: str
    sha256: str
    initial: NotRequired[list[str]]


class _Extension(TypedDict):
    finished: int
    epochs: int
    patience: int


class _VolumeFacts(TypedDict):
    dims: float
    channels: Annotated[list[str], Field(min_length=1)]
    spacing_mm: Annotated[list[float | None], Field(min_length=3, max_length=3)]
    statistics: list[dict[str, float]]
    is_picture: NotRequired[bool]
    slice_axis: Annotated[int, Field(ge=0, le=2)]
    onto: NotRequired[Annotated[int, Field(ge=0)]]


class RunFacts(TypedDict):
    """Entries that are read again; the others are for readers.

    Attributes:
        augmentation: Revision of what the names in `data.augment` mean; missing in runs of guidino 0.1.0.
        classes: Names; the index is the value in the masks, 0 is the background.
        data: Manifest of the training data.
        backbone: Its weights and statistics, None without one.
        origin: The run that `lora-tune` or `train --from` started from; `initial` are tensors that it did not give.
        extended: Epochs and patience before the run was extended, and the epochs that were finished then.
        blueprint: See `BackboneSpec`.
        precision: Of training and validation; missing in older runs, which were validated in full precision.
        volumes: How volumes become the network's input, see `VolumePreprocessing`; missing in runs on images.
    """

    augmentation: NotRequired[int]
    classes: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    data: _DataFacts
    backbone: _BackboneFacts | None
    origin: NotRequired[_OriginFacts]
    extended: NotRequired[list[_Extension]]
    blueprint: NotRequired[dict[str, Any]]
    precision: NotRequired[_PrecisionFacts]
    volumes: NotRequired[_VolumeFacts]


def read_run_facts(run: Path) -> dict[str, Any]:
    """Content of a run's `run.json`.

    Raises:
        DataError: Missing, damaged, of another format, or an entry of `RunFacts` of another type.
    """
    path = run / FACTS_FILE
    facts = read_facts(path, version=FACTS_FORMAT, hint=_HINT)
    require_type(facts, RunFacts, source=path, hint=_HINT)
    return facts


def is_volume_run(run: Path) -> bool:
    """Whether a folder is that of a run trained on volumes; False if it is no run at all.

    Raises:
        DataError: A damaged run.
    """
    return (run / FACTS_FILE).is_file() and "volumes" in read_run_facts(run)


def is_picture_run(run: Path) -> bool:
    """Whether it was trained on pictures with all their channels and bits, which are handled as volumes of one slice.

    Raises:
        DataError: A damaged run.
    """
    return is_volume_run(run) and bool(read_run_facts(run)["volumes"].get("is_picture"))
