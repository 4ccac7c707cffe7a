"""Parts shared by the prediction of images and volumes: the folder of masks, their provenance, the end of a call."""

import shlex
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from guidino_cli import __version__
from guidino_cli.commands.prediction.jobs import AnyJob, Job, Shard, describe_unsafe_job, select_shard
from guidino_cli.commands.prediction.json_summary import print_prediction_json
from guidino_cli.commands.prediction.mask_files import MaskWriter
from guidino_cli.commands.prediction.records import (
    RECORDS_FILE,
    SUMMARY_FILE,
    PredictionLog,
    read_summary,
    require_same_provenance,
)
from guidino_cli.commands.prediction.review import (
    REVIEW_FILES,
    collect_review,
    describe_expected,
    remove_review,
    write_csv,
    write_page,
)
from guidino_cli.commands.prediction.risk import RiskRegions, choose_regions, find_fitted
from guidino_cli.data.postprocess import PostprocessRule, parse_postprocess_rule
from guidino_cli.engine.prediction.ensemble import ensemble_arguments
from guidino_cli.engine.prediction.postprocessing import describe_rules, load_rules
from guidino_cli.engine.risk.storage import FittedRisk
from guidino_cli.engine.run_folders import lock_run_folder, require_unlocked_run_folder
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.errors import ConfigError, DataError, PartialError, explain_out_of_memory, is_out_of_memory
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize

if TYPE_CHECKING:
    from PIL import Image


class LoadedRuns(Protocol):
    """One run, or an ensemble, with the facts about it."""

    @property
    def classes(self) -> list[str]: ...

    @property
    def runs(self) -> list[dict[str, Any]]: ...

    @property
    def provenance(self) -> list[dict[str, Any]]: ...

    @property
    def has_guide(self) -> bool: ...


AnyRuns = TypeVar("AnyRuns", bound=LoadedRuns)


class PredictionTask(ABC, Generic[AnyJob, AnyRuns]):
    """Steps that differ between the prediction of images and of volumes.

    Attributes:
        noun: What is predicted: "image" or "volume".
        options: Options of the command.
    """

    noun: str
    options: PredictOptions
    pictures: int = 12
    """Pictures on the page of the review list, which are made once more from the files."""
    picture_notes: Sequence[str] = ()

    @abstractmethod
    def find_jobs(self) -> Sequence[AnyJob]:
        """All that is to be predicted, in its order."""

    @abstractmethod
    def load(self) -> AnyRuns:
        """The runs, ready to predict."""

    @abstractmethod
    def make_writer(self, out: Path, loaded: AnyRuns, rules: dict[int, PostprocessRule]) -> MaskWriter:
        """Writer of the masks of a folder."""

    @abstractmethod
    def describe_start(self, count: int, own: Sequence[AnyJob], shard: Shard, loaded: AnyRuns) -> str:
        """The first line: how much there is to do."""

    @abstractmethod
    def draw(self, name: str, image: str, writer: Any) -> "Image.Image":
        """Picture of a mask on its image for the review list.

        Raises:
            DataError: One of them cannot be read.
        """

    @abstractmethod
    def predict(self, own: Sequence[AnyJob], loaded: AnyRuns, writer: Any, log: PredictionLog) -> None:
        """Predict and write the jobs of this shard; `writer` is that of `make_writer`."""


def run_prediction(task: PredictionTask, run_path: Path, places: Sequence[Path], out: Path) -> None:
    """Predict into a folder that no other process may write to, and keep a record of what was made with what.

    Args:
        task: Predicts images or volumes.
        run_path: Run folder.
        places: Of the command line.
        out: Folder of the masks.

    Raises:
        ConfigError: Options that contradict each other, the runs or the masks in `out`, or a folder in use.
        DataError: Nothing to predict, or nothing that could be read.
        PartialError: Some could not be read; the others are predicted.
        ResourceError: Out of memory or disk space; finished masks are kept.
    """
    options = task.options
    rule = parse_postprocess_rule(options.post) if options.post not in {"none", "auto"} else None
    shard = select_shard(options.shard)
    jobs = task.find_jobs()
    require_unlocked_run_folder(out, content="folder")
    _require_folder(out, places, options, shard)
    keep_all_freed_memory()
    loaded = task.load()
    _require_possible(options, run_path, loaded.classes, has_guide=loaded.has_guide)
    rules = _choose_rules(options, rule, run_path, loaded.classes, loaded.provenance)
    fitted = find_fitted(run_path, options, loaded.classes, loaded.provenance)
    risk = choose_regions(fitted, options, places)
    facts = _summary_facts(loaded.runs, loaded.classes, loaded.provenance, options, rules, risk)
    writer = replace(task.make_writer(out, loaded, rules), risk=risk)
    usable = [job for job in jobs if not job.problem]
    writer.require_distinct_paths(
        usable, guide_maps=_count_guide_maps([run_path, *(options.ensemble or ())], loaded.classes)
    )
    own = jobs[shard.number - 1 :: shard.count]
    # Shards write to one folder together; any other process would mix its masks with these.
    with lock_run_folder(out, shared=shard.count > 1, content="folder"):
        if shard.count == 1:
            # Another process may have begun and finished meanwhile.
            _require_folder(out, places, options, shard)
        # Masks that are kept must have the same provenance, whatever may be overwritten.
        if options.skip_existing or (_adds_masks(out, options, shard) and not options.overwrite):
            require_same_provenance(out, facts["made_with"])
        log_info(task.describe_start(len(jobs), own, shard, loaded))
        remove_review(out)
        records = PredictionLog(out, shard, facts, keep=options.skip_existing)
        if not options.skip_existing:
            _remove_stale_masks(writer, own, usable)
        with _interruptible(records, out, len(own)):
            task.predict(own, loaded, writer, records)
        records.summarise(total=len(own), complete=True)
        has_instances = any("labelling" in item for item in loaded.provenance)
        if not has_instances:
            # Instances have no probabilities to sort their masks by.
            _write_review(task, out, writer, fitted)
    _finish(records, out, loaded.classes, options, total=len(own), noun=task.noun, has_instances=has_instances)


_PROVENANCE = ("weights", "overlap", "mirror", "mirror_backbone")


def require_values(options: PredictOptions) -> None:
    """`ConfigError` unless --values is one of its two."""
    if options.values not in {"index", "255"}:
        raise ConfigError(
            f"--values {options.values}: expected index (0, 1, 2, ...) or 255 (background 0, foreground 255)"
        )


def refuse_options_of_volumes(options: PredictOptions) -> None:
    """`ConfigError` for options that mean nothing for images."""
    given = {
        "--series": options.series is not None,
        "--orientation": options.orientation is not None,
        "--ignore-headers": options.ignore_headers,
        "--dicom-seg": options.dicom_seg,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise ConfigError(f"{names[0]} is for volumes, but the run was trained on images; leave it out")


def _require_folder(out: Path, places: Sequence[Path], options: PredictOptions, shard: Shard) -> None:
    """`ConfigError` unless masks may be written to a folder."""
    require_output_folder(
        out,
        places,
        overwrite=options.overwrite or _adds_masks(out, options, shard),
        hint="add --overwrite or --skip-existing",
        # Other shards may write to the same folder from other machines.
        keep_leftovers_for=3600.0 if shard.count > 1 else 0.0,
    )


def _adds_masks(out: Path, options: PredictOptions, shard: Shard) -> bool:
    """Whether masks are added to those in the folder; another shard may be about to write its first summary."""
    return options.skip_existing or (shard.count > 1 and any(out.glob("*predictions*.json")))


def _require_possible(options: PredictOptions, run_path: Path, classes: Sequence[str], *, has_guide: bool) -> None:
    """`ConfigError` for a guide that the runs do not have, and for 255 with several classes."""
    if options.save_guide and not has_guide:
        raise ConfigError(f"{run_path}: has no guide to save; leave out --save-guide")
    if options.values == "255" and len(classes) > 2:
        raise ConfigError(f"--values 255 is for two classes, the run has {len(classes)}: use --values index")
    if options.risk and options.post != "none":
        raise ConfigError("--risk: its bounds are for masks as the network makes them; leave out --post")


def _count_guide_maps(runs: Sequence[Path], classes: Sequence[str]) -> int:
    """Largest number of maps of the guides of some runs; 1 without guides."""
    guides = [RunFolder(path).config().model.guide for path in runs]
    return len(classes) - 1 if any(guide is not None and guide.per_class for guide in guides) else 1


def _remove_stale_masks(writer: MaskWriter, own: Sequence[Job], usable: Sequence[Job]) -> None:
    """Remove masks that an earlier call made under the names of what cannot be predicted now."""
    made = {job.name for job in usable}
    for job in own:
        if job.problem and job.name not in made and not describe_unsafe_job(job):
            # A name that is too long has no mask.
            with suppress(OSError):
                writer.remove(job)


def _choose_rules(
    options: PredictOptions,
    rule: PostprocessRule | None,
    run_path: Path,
    classes: list[str],
    provenance: list[dict[str, Any]],
) -> dict[int, PostprocessRule]:
    """Post-processing by class index."""
    if options.post == "auto":
        command = shlex.join(
            ["guidino", "tune-post", str(run_path), *ensemble_arguments(options.ensemble, options.overrides)]
        )
        rules = load_rules(run_path, classes, provenance=provenance, command=command)
        log_info(
            f"post-processing of {run_path}: {describe_rules((classes[index], item) for index, item in rules.items())}"
        )
        return rules
    return {} if rule is None else dict.fromkeys(range(1, len(classes)), rule)


def _summary_facts(
    runs: list[dict[str, Any]],
    classes: list[str],
    provenance: list[dict[str, Any]],
    options: PredictOptions,
    rules: dict[int, PostprocessRule],
    risk: RiskRegions | None,
) -> dict[str, Any]:
    """Entries of the summary; "made_with" must be the same for all masks of a folder."""
    precisions = [item.get("precision", "no") for item in provenance]
    return {
        "guidino": __version__,
        "runs": runs,
        "classes": classes,
        # Masks of other provenance must not be added to the same folder.
        "made_with": {
            **{key: [item[key] for item in provenance] for key in _PROVENANCE},
            **{key: value for item in provenance for key, value in item.get("labelling", {}).items()},
            # Left out where it is full, as in older records.
            **({"precision": precisions} if set(precisions) != {"no"} else {}),
            "values": options.values,
            "post": {classes[index]: str(rule) for index, rule in rules.items()},
            **({} if risk is None else {"risk": risk.record}),
        },
    }


def _write_review(task: PredictionTask, out: Path, writer: MaskWriter, fitted: FittedRisk | str) -> None:
    """Write review.csv and review.html once all shards are done."""
    summary = read_summary(out / SUMMARY_FILE)
    if summary is None or not summary["complete"]:
        return
    expected = fitted if isinstance(fitted, str) else fitted.expected_dice or fitted.left_out
    review = collect_review(out / RECORDS_FILE, suffix=writer.suffix, expected=expected, noun=task.noun)
    if not review.rows:
        return
    write_csv(review, out)
    write_page(
        review,
        out,
        draw=lambda row: task.draw(row.name, row.image, writer),
        pictures=task.pictures,
        notes=task.picture_notes,
        classes=writer.classes,
    )
    worst = f"worst first by {review.order.replace('_', ' ')}"
    log_info(f"review list, {worst}: {out / REVIEW_FILES[0]}, with pictures {out / REVIEW_FILES[1]}")
    log_info(describe_expected(review))


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
    except (MemoryError, RuntimeError, OSError) as error:
        if is_out_of_memory(error):
            records.summarise(total=total, complete=False)
        with explain_out_of_memory(f"lower predict.batch_size and predict.memory_gb, then {resume_hint}"):
            raise


def _finish(
    records: PredictionLog,
    out: Path,
    classes: list[str],
    options: PredictOptions,
    *,
    total: int,
    noun: str,
    has_instances: bool,
) -> None:
    """Print the result and the next command, or the result as JSON.

    Args:
        records: Of this call.
        out: Folder of the masks.
        classes: Names.
        options: With `--values` and `--json`.
        total: Number of images or volumes of this call.
        noun: "image" or "volume".
        has_instances: Whether masks hold instance numbers.

    Raises:
        DataError: None could be read.
        PartialError: Some could not be read.
    """
    counts = records.counts
    meaning = "0 and 255" if options.values == "255" else f"class indices 0..{len(classes) - 1}"
    meaning = "instance numbers" if has_instances else meaning
    metrics = " --metrics are,voi,voi_split,voi_merge" if has_instances else ""
    # With neither there is nothing to evaluate.
    following = f"; next: guidino evaluate {out} TRUTH{metrics} -o REPORT" if counts.made or counts.skipped else ""
    if options.as_json:
        print_prediction_json(records, out, classes, total=total, noun=noun, meaning=meaning)
    else:
        print(f"{pluralize(counts.made, 'mask')} in {out} ({meaning}){following}")
    if counts.failed:
        tried = counts.made + counts.failed
        if not counts.made and not counts.skipped:
            raise DataError(f"none of {pluralize(tried, noun)} could be read; see {records.failed_path}")
        raise PartialError(f"{counts.failed} of {pluralize(tried, noun)} could not be read; see {records.failed_path}")
