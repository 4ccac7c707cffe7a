"""`guidino predict`: from a run and images to masks and, optionally, guides, probabilities and overlays."""

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guidino_cli import __version__
from guidino_cli.commands.prediction.batches import predict_all
from guidino_cli.commands.prediction.files import (
    MaskWriter,
    PredictionJob,
    Shard,
    find_jobs,
    local_rank_device,
    select_shard,
)
from guidino_cli.commands.prediction.records import PredictionLog, require_same_provenance
from guidino_cli.data.postprocess import PostprocessRule, parse_postprocess_rule
from guidino_cli.data.regions import read_size
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, ensemble_arguments, load_ensemble
from guidino_cli.engine.prediction.postprocessing import describe_rules, load_rules
from guidino_cli.engine.run_folders import lock_run_folder, require_unlocked_run_folder
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, PartialError, ResourceError
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize


def run(run_path: Path, images: Sequence[Path], out: Path, options: PredictOptions) -> None:
    """Segment images and write one mask each, in the grid and under the name of its image.

    Args:
        run_path: Run folder.
        images: Images, folders of images, or prepared data folders.
        out: Folder of the masks.
        options: See their help texts.

    Raises:
        ConfigError: Options that contradict each other, the runs or the masks in `out`, or a folder in use.
        DataError: No images, or none that could be read.
        PartialError: Some images could not be read; the others are predicted.
        ResourceError: Out of memory or disk space; finished masks are kept.
    """
    if options.values not in {"index", "255"}:
        raise ConfigError(
            f"--values {options.values}: expected index (0, 1, 2, ...) or 255 (background 0, foreground 255)"
        )
    rule = parse_postprocess_rule(options.post) if options.post not in {"none", "auto"} else None
    shard = select_shard(options.shard)
    jobs = find_jobs(images, options.split, recursive=options.recursive)
    require_unlocked_run_folder(out, content="folder")
    _require_folder(out, images, options, shard)
    keep_all_freed_memory()
    loaded = load_ensemble(
        [run_path, *(options.ensemble or ())],
        overrides=tuple(options.overrides or ()),
        offline=options.offline,
        device=pick_device(local_rank_device(options.device)),
    )
    _require_possible(loaded, options, run_path)
    rules = _rules(options, rule, run_path, loaded)
    facts = _facts(loaded, options, rules)
    output = MaskWriter(out, options, rules, loaded.classes)
    output.require_distinct_paths(jobs, guide_maps=_guide_maps([run_path, *(options.ensemble or ())], loaded.classes))
    own = jobs[shard.number - 1 :: shard.count]
    # Shards write to one folder together; any other process would mix its masks with these.
    with lock_run_folder(out, shared=shard.count > 1, content="folder"):
        if shard.count == 1:
            # Another process may have begun and finished meanwhile.
            _require_folder(out, images, options, shard)
        # Masks that are kept must have the same provenance, whatever may be overwritten.
        if options.skip_existing or (_adds(out, options, shard) and not options.overwrite):
            require_same_provenance(out, facts["made_with"])
        log_info(_start(len(jobs), own, shard, loaded))
        records = PredictionLog(out, shard, facts, keep=options.skip_existing)
        with _interruptible(records, out, len(own)):
            predict_all(own, loaded, output, records, skip_existing=options.skip_existing)
        records.summarise(total=len(own), complete=True)
    _finish(records, out, loaded.classes, options.values)


def _require_folder(out: Path, images: Sequence[Path], options: PredictOptions, shard: Shard) -> None:
    require_output_folder(
        out,
        images,
        overwrite=options.overwrite or _adds(out, options, shard),
        hint="add --overwrite or --skip-existing",
        # Other shards may write to the same folder from other machines.
        keep_leftovers_for=3600.0 if shard.count > 1 else 0.0,
    )


def _adds(out: Path, options: PredictOptions, shard: Shard) -> bool:
    """Whether masks are added to those in the folder; another shard may be about to write its first summary."""
    return options.skip_existing or (shard.count > 1 and any(out.glob("*predictions*.json")))


def _require_possible(loaded: LoadedEnsemble, options: PredictOptions, run_path: Path) -> None:
    if options.save_guide and all(member.model.guide is None for member in loaded.predictor.members):
        raise ConfigError(f"{run_path}: has no guide to save; leave out --save-guide")
    if options.values == "255" and len(loaded.classes) > 2:
        raise ConfigError(f"--values 255 is for two classes, the run has {len(loaded.classes)}: use --values index")


def _guide_maps(runs: Sequence[Path], classes: list[str]) -> int:
    """Largest number of maps of the guides of some runs; 1 without guides."""
    guides = [RunFolder(path).config().model.guide for path in runs]
    return len(classes) - 1 if any(guide is not None and guide.per_class for guide in guides) else 1


def _rules(
    options: PredictOptions, rule: PostprocessRule | None, run_path: Path, loaded: LoadedEnsemble
) -> dict[int, PostprocessRule]:
    """Post-processing by class index."""
    classes = loaded.classes
    if options.post == "auto":
        command = shlex.join(
            ["guidino", "tune-post", str(run_path), *ensemble_arguments(options.ensemble, options.overrides)]
        )
        rules = load_rules(run_path, classes, provenance=loaded.provenance, command=command)
        log_info(
            f"post-processing of {run_path}: {describe_rules((classes[index], item) for index, item in rules.items())}"
        )
        return rules
    return {} if rule is None else dict.fromkeys(range(1, len(classes)), rule)


def _facts(loaded: LoadedEnsemble, options: PredictOptions, rules: dict[int, PostprocessRule]) -> dict[str, Any]:
    keys = ("weights", "overlap", "mirror", "mirror_backbone")
    return {
        "guidino": __version__,
        "runs": loaded.runs,
        "classes": loaded.classes,
        # Masks of other provenance must not be added to the same folder.
        "made_with": {
            **{key: [item[key] for item in loaded.provenance] for key in keys},
            "values": options.values,
            "post": {loaded.classes[index]: str(rule) for index, rule in rules.items()},
        },
    }


def _start(count: int, own: list[PredictionJob], shard: Shard, loaded: LoadedEnsemble) -> str:
    """The number of images, and the forward passes of the first one."""
    members = loaded.predictor.members
    prefix = f"{len(own)} of " if shard.count > 1 else ""
    line = f"{prefix}{pluralize(count, 'image')} on {members[0].model.mean.device}"
    try:
        size_hw = read_size(Path(own[0].image)) if own else None
    except DataError:
        # It will be reported among the failed images.
        size_hw = None
    if size_hw is None:
        return line
    costs = [(member.count_windows(size_hw), member.window.flips, member.window.size) for member in members]
    terms = " + ".join(f"{windows} x {flips} of {size} px" for windows, flips, size in costs)
    passes = sum(windows * flips for windows, flips, _ in costs)
    hint = "; --set predict.mirror=false takes a quarter" if members[0].window.mirror else ""
    return (
        f"{line}; {size_hw[1]}x{size_hw[0]} px: {pluralize(passes, 'pass', 'passes')} (windows x flips: {terms}){hint}"
    )


@contextmanager
def _interruptible(records: PredictionLog, out: Path, total: int) -> Iterator[None]:
    """Write the summary when interrupted or out of memory, with a hint on how to continue."""
    resume_hint = "resume with the same command and --skip-existing"
    try:
        yield
    except KeyboardInterrupt:
        records.summarise(total=total, complete=False)
        done = records.counts
        print(f"guidino: interrupted; {out} holds {pluralize(done.made, 'mask')}; {resume_hint}", file=sys.stderr)
        raise
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "memory" not in str(error).lower():
            raise
        records.summarise(total=total, complete=False)
        reason = (str(error) or "MemoryError").splitlines()[0]
        advice = "lower predict.batch_size and predict.memory_gb"
        raise ResourceError(f"out of memory ({reason}); {advice}, then {resume_hint}") from error


def _finish(records: PredictionLog, out: Path, classes: list[str], values: str) -> None:
    """Print the result and the next command."""
    counts = records.counts
    meaning = "0 and 255" if values == "255" else f"class indices 0..{len(classes) - 1}"
    # With neither there is nothing to evaluate.
    following = f"; next: guidino evaluate {out} TRUTH -o REPORT" if counts.made or counts.skipped else ""
    print(f"{pluralize(counts.made, 'mask')} in {out} ({meaning}){following}")
    if counts.failed:
        tried = counts.made + counts.failed
        if not counts.made and not counts.skipped:
            raise DataError(f"none of {pluralize(tried, 'image')} could be read; see {records.failed_path}")
        raise PartialError(
            f"{counts.failed} of {pluralize(tried, 'image')} could not be read; see {records.failed_path}"
        )
