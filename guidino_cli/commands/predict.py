"""From a run and images to masks, and on request guides, probabilities and overlays."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.commands.prediction.batches import predict_all
from guidino_cli.commands.prediction.files import (
    ExtraOutputs,
    MaskWriter,
    PredictionJob,
    Shard,
    find_jobs,
    local_rank_device,
    parse_shard,
)
from guidino_cli.commands.prediction.records import PredictionLog, require_same_provenance
from guidino_cli.data.postprocess import PostprocessRule, parse_postprocess_rule
from guidino_cli.data.regions import read_size
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.prediction.postprocessing import describe_rules, load_rules
from guidino_cli.errors import ConfigError, DataError, PartialError, ResourceError
from guidino_cli.outputs import require_output_folder
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize

__all__ = ["ExtraOutputs", "PredictOptions", "run"]


@dataclass(frozen=True)
class PredictOptions:
    """What is wanted of each image, and of which.

    Attributes:
        extras: Files beside the masks.
        values: "index", or "255" for background 0 and foreground 255.
        post: "none", "auto" (what `tune-post` chose) or a rule for every class, such as "largest,fill".
        ensemble: Further runs; probabilities are averaged.
        split: Of a prepared data folder.
        recursive: Also images in folders below; masks keep their folders.
        shard: "2/8": the second of eight processes that share the images.
        overwrite: Write into a folder that is not empty.
        skip_existing: Leave masks that are there already, with all that is asked for beside them.
    """

    extras: ExtraOutputs = field(default_factory=ExtraOutputs)
    values: str = "index"
    post: str = "none"
    ensemble: tuple[Path, ...] = ()
    split: str = "test"
    recursive: bool = False
    shard: str | None = None
    overwrite: bool = False
    skip_existing: bool = False


def run(
    run_path: Path,
    images: Sequence[Path],
    *,
    out: Path,
    request: PredictOptions,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
) -> None:
    """Segment images and write one mask each, in the grid and under the name of its image."""
    if request.values not in {"index", "255"}:
        raise ConfigError(
            f"--values {request.values}: expected index (0, 1, 2, ...) or 255 (background 0, foreground 255)"
        )
    rule = parse_postprocess_rule(request.post) if request.post not in {"none", "auto"} else None
    shard = parse_shard(request.shard)
    jobs = find_jobs(images, request.split, recursive=request.recursive)
    # Another share may be about to write its first summary.
    adds = request.skip_existing or (shard.count > 1 and any(out.glob("*predictions*.json")))
    require_output_folder(out, images, overwrite=request.overwrite or adds, hint="add --overwrite or --skip-existing")
    keep_all_freed_memory()
    loaded = load_ensemble(
        [run_path, *request.ensemble],
        overrides=overrides,
        offline=offline,
        device=pick_device(local_rank_device(device)),
    )
    _require_possible(loaded, request, run_path)
    rules = _rules(request, rule, run_path, loaded, overrides)
    facts = _facts(loaded, request, rules)
    # Masks that are left must be of the same making, whatever may be overwritten.
    if request.skip_existing or (adds and not request.overwrite):
        require_same_provenance(out, facts["made_with"])
    own = jobs[shard.number - 1 :: shard.count]
    log_info(_start(len(jobs), own, shard, loaded))
    records = PredictionLog(out, shard, facts, keep=request.skip_existing)
    output = MaskWriter(out, request.extras, request.values, rules)
    with _interruptible(records, out, len(own)):
        predict_all(own, loaded, output, records, skip_existing=request.skip_existing)
    records.summarise(total=len(own), complete=True)
    _finish(records, out, loaded.classes, request.values)


def _require_possible(loaded: LoadedEnsemble, request: PredictOptions, run_path: Path) -> None:
    if request.extras.guide and all(member.model.guide is None for member in loaded.predictor.members):
        raise ConfigError(f"{run_path}: has no guide to save; leave out --save-guide")
    if request.values == "255" and len(loaded.classes) > 2:
        raise ConfigError(f"--values 255 is for two classes, the run has {len(loaded.classes)}: use --values index")


def _rules(
    request: PredictOptions,
    rule: PostprocessRule | None,
    run_path: Path,
    loaded: LoadedEnsemble,
    overrides: tuple[str, ...],
) -> dict[int, PostprocessRule]:
    """What is done to the masks, by class index."""
    classes = loaded.classes
    if request.post == "auto":
        others = [word for path in request.ensemble for word in ("--ensemble", str(path))]
        settings = [word for item in overrides for word in ("--set", item)]
        command = shlex.join(["guidino", "tune-post", str(run_path), *others, *settings])
        rules = load_rules(run_path, classes, provenance=loaded.provenance, command=command)
        log_info(
            f"post-processing of {run_path}: {describe_rules((classes[index], item) for index, item in rules.items())}"
        )
        return rules
    return {} if rule is None else dict.fromkeys(range(1, len(classes)), rule)


def _facts(loaded: LoadedEnsemble, request: PredictOptions, rules: dict[int, PostprocessRule]) -> dict[str, Any]:
    keys = ("weights", "overlap", "mirror", "mirror_backbone")
    return {
        "guidino": __version__,
        "runs": loaded.runs,
        "classes": loaded.classes,
        # What decides the masks: masks made otherwise do not belong into the same folder.
        "made_with": {
            **{key: [item[key] for item in loaded.provenance] for key in keys},
            "values": request.values,
            "post": {loaded.classes[index]: str(rule) for index, rule in rules.items()},
        },
    }


def _start(count: int, own: list[PredictionJob], shard: Shard, loaded: LoadedEnsemble) -> str:
    """How much there is to do, and what one image costs."""
    members = loaded.predictor.members
    share = f"{len(own)} of " if shard.count > 1 else ""
    line = f"{share}{pluralize(count, 'image')} on {members[0].model.mean.device}"
    try:
        size_hw = read_size(Path(own[0].image)) if own else None
    except DataError:
        # It will be listed among those that failed.
        size_hw = None
    if size_hw is None:
        return line
    costs = [(member.count_windows(size_hw), member.window.flips, member.window.size) for member in members]
    each = " + ".join(f"{windows} x {flips} of {size} px" for windows, flips, size in costs)
    passes = sum(windows * flips for windows, flips, _ in costs)
    hint = "; --set predict.mirror=false takes a quarter" if members[0].window.mirror else ""
    return (
        f"{line}; {size_hw[1]}x{size_hw[0]} px: {pluralize(passes, 'pass', 'passes')} (windows x flips: {each}){hint}"
    )


@contextmanager
def _interruptible(records: PredictionLog, out: Path, total: int) -> Iterator[None]:
    """What was done before an interruption or a lack of memory is kept, and the way to go on is said."""
    go_on = "go on with the same command and --skip-existing"
    try:
        yield
    except KeyboardInterrupt:
        records.summarise(total=total, complete=False)
        done = records.counts
        print(f"guidino: interrupted; {out} holds {pluralize(done.made, 'mask')}; {go_on}", file=sys.stderr)
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        records.summarise(total=total, complete=False)
        reason = (str(error) or "MemoryError").splitlines()[0]
        advice = "lower predict.batch_size and predict.memory_gb"
        raise ResourceError(f"out of memory ({reason}); {advice}, then {go_on}") from error


def _finish(records: PredictionLog, out: Path, classes: list[str], values: str) -> None:
    """Say what came out and what comes next."""
    counts = records.counts
    meaning = "0 and 255" if values == "255" else f"class indices 0..{len(classes) - 1}"
    # Nothing was written: either nothing could be read, or all masks were there already.
    following = f"; next: guidino evaluate {out} TRUTH -o REPORT" if counts.made or counts.skipped else ""
    print(f"{pluralize(counts.made, 'mask')} in {out} ({meaning}){following}")
    if counts.failed:
        tried = counts.made + counts.failed
        raise PartialError(
            f"{counts.failed} of {pluralize(tried, 'image')} could not be read; see {records.failed_path}"
        )
