"""From a run and images to masks, and on request guides, probabilities and overlays."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.commands.inputs import check_out
from guidino_cli.commands.prediction.batches import predict_all
from guidino_cli.commands.prediction.files import Extras, Job, Output, Shard, find_jobs, own_device, which_shard
from guidino_cli.commands.prediction.records import Records, require_same_making
from guidino_cli.data.postprocess import Rule, parse_rule
from guidino_cli.data.regions import size_in_file
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.members import Loaded, load_members
from guidino_cli.engine.prediction.post_choice import describe, load_rules
from guidino_cli.errors import ConfigError, DataError, PartialError, ResourceError
from guidino_cli.processes import keep_freed_maps
from guidino_cli.progress import counted, say

__all__ = ["Extras", "Request", "run"]


@dataclass(frozen=True)
class Request:
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

    extras: Extras = field(default_factory=Extras)
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
    request: Request,
    overrides: tuple[str, ...] = (),
    device: str | None = None,
    offline: bool = False,
) -> None:
    """Segment images and write one mask each, in the grid and under the name of its image."""
    if request.values not in {"index", "255"}:
        raise ConfigError(
            f"--values {request.values}: expected index (0, 1, 2, ...) or 255 (background 0, foreground 255)"
        )
    rule = parse_rule(request.post) if request.post not in {"none", "auto"} else None
    shard = which_shard(request.shard)
    jobs = find_jobs(images, request.split, recursive=request.recursive)
    # Another share may be about to write its first summary.
    adds = request.skip_existing or (shard.count > 1 and any(out.glob("*predictions*.json")))
    check_out(out, images, overwrite=request.overwrite or adds, ways="add --overwrite or --skip-existing")
    keep_freed_maps()
    loaded = load_members(
        [run_path, *request.ensemble],
        overrides=overrides,
        offline=offline,
        device=pick_device(own_device(device)),
    )
    _require_possible(loaded, request, run_path)
    rules = _rules(request, rule, run_path, loaded, overrides)
    facts = _facts(loaded, request, rules)
    # Masks that are left must be of the same making, whatever may be overwritten.
    if request.skip_existing or (adds and not request.overwrite):
        require_same_making(out, facts["made_with"])
    own = jobs[shard.number - 1 :: shard.count]
    say(_start(len(jobs), own, shard, loaded))
    records = Records(out, shard, facts, keep=request.skip_existing)
    output = Output(out, request.extras, request.values, rules)
    with _interruptible(records, out, len(own)):
        predict_all(own, loaded, output, records, skip_existing=request.skip_existing)
    records.summarise(total=len(own), complete=True)
    _finish(records, out, loaded.classes, request.values)


def _require_possible(loaded: Loaded, request: Request, run_path: Path) -> None:
    if request.extras.guide and all(member.model.guide is None for member in loaded.predictor.members):
        raise ConfigError(f"{run_path}: has no guide to save; leave out --save-guide")
    if request.values == "255" and len(loaded.classes) > 2:
        raise ConfigError(f"--values 255 is for two classes, the run has {len(loaded.classes)}: use --values index")


def _rules(
    request: Request, rule: Rule | None, run_path: Path, loaded: Loaded, overrides: tuple[str, ...]
) -> dict[int, Rule]:
    """What is done to the masks, by class index."""
    classes = loaded.classes
    if request.post == "auto":
        others = [word for path in request.ensemble for word in ("--ensemble", str(path))]
        settings = [word for item in overrides for word in ("--set", item)]
        command = shlex.join(["guidino", "tune-post", str(run_path), *others, *settings])
        rules = load_rules(run_path, classes, making=loaded.making, command=command)
        say(f"post-processing of {run_path}: {describe((classes[index], item) for index, item in rules.items())}")
        return rules
    return {} if rule is None else dict.fromkeys(range(1, len(classes)), rule)


def _facts(loaded: Loaded, request: Request, rules: dict[int, Rule]) -> dict[str, Any]:
    keys = ("weights", "overlap", "mirror", "mirror_backbone")
    return {
        "guidino": __version__,
        "runs": loaded.runs,
        "classes": loaded.classes,
        # What decides the masks: masks made otherwise do not belong into the same folder.
        "made_with": {
            **{key: [item[key] for item in loaded.making] for key in keys},
            "values": request.values,
            "post": {loaded.classes[index]: str(rule) for index, rule in rules.items()},
        },
    }


def _start(count: int, own: list[Job], shard: Shard, loaded: Loaded) -> str:
    """How much there is to do, and what one image costs."""
    members = loaded.predictor.members
    share = f"{len(own)} of " if shard.count > 1 else ""
    line = f"{share}{counted(count, 'image')} on {members[0].model.mean.device}"
    try:
        size_hw = size_in_file(Path(own[0].image)) if own else None
    except DataError:
        # It will be listed among those that failed.
        size_hw = None
    if size_hw is None:
        return line
    costs = [(member.windows(size_hw), member.window.flips, member.window.size) for member in members]
    each = " + ".join(f"{windows} x {flips} of {size} px" for windows, flips, size in costs)
    passes = sum(windows * flips for windows, flips, _ in costs)
    hint = "; --set predict.mirror=false takes a quarter" if members[0].window.mirror else ""
    return f"{line}; {size_hw[1]}x{size_hw[0]} px: {counted(passes, 'pass', 'passes')} (windows x flips: {each}){hint}"


@contextmanager
def _interruptible(records: Records, out: Path, total: int) -> Iterator[None]:
    """What was done before an interruption or a lack of memory is kept, and the way to go on is said."""
    go_on = "go on with the same command and --skip-existing"
    try:
        yield
    except KeyboardInterrupt:
        records.summarise(total=total, complete=False)
        done = records.counts
        print(f"guidino: interrupted; {out} holds {counted(done.made, 'mask')}; {go_on}", file=sys.stderr)
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        records.summarise(total=total, complete=False)
        reason = (str(error) or "MemoryError").splitlines()[0]
        advice = "lower predict.batch_size and predict.memory_gb"
        raise ResourceError(f"out of memory ({reason}); {advice}, then {go_on}") from error


def _finish(records: Records, out: Path, classes: list[str], values: str) -> None:
    """Say what came out and what comes next."""
    counts = records.counts
    meaning = "0 and 255" if values == "255" else f"class indices 0..{len(classes) - 1}"
    # Nothing was written: either nothing could be read, or all masks were there already.
    following = f"; next: guidino evaluate {out} TRUTH -o REPORT" if counts.made or counts.skipped else ""
    print(f"{counted(counts.made, 'mask')} in {out} ({meaning}){following}")
    if counts.failed:
        tried = counts.made + counts.failed
        raise PartialError(f"{counts.failed} of {counted(tried, 'image')} could not be read; see {records.failed_path}")
