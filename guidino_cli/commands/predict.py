"""`guidino predict`: from a run and images, or volumes, to masks and, optionally, guides and probabilities."""

from collections.abc import Sequence
from pathlib import Path

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
from guidino_cli.commands.prediction.session import (
    adds_masks,
    choose_rules,
    count_guide_maps,
    finish,
    interruptible,
    refuse_options_of_volumes,
    require_folder,
    require_possible,
    require_values,
    summary_facts,
)
from guidino_cli.data.postprocess import parse_postprocess_rule
from guidino_cli.data.regions import read_size
from guidino_cli.engine.devices import pick_device
from guidino_cli.engine.prediction.ensemble import LoadedEnsemble, load_ensemble
from guidino_cli.engine.run_folders import lock_run_folder, require_unlocked_run_folder
from guidino_cli.engine.runs.facts import is_volume_run
from guidino_cli.errors import DataError
from guidino_cli.options.prediction import PredictOptions
from guidino_cli.processes import keep_all_freed_memory
from guidino_cli.progress import log_info, pluralize


def run(run_path: Path, images: Sequence[Path], out: Path, options: PredictOptions) -> None:
    """Segment images or volumes and write one mask each, in the grid and under the name of its source.

    Args:
        run_path: Run folder.
        images: Images or volumes, folders of them, DICOM folders, or prepared data folders.
        out: Folder of the masks.
        options: See their help texts.

    Raises:
        ConfigError: Options that contradict each other, the runs or the masks in `out`, or a folder in use.
        DataError: No images, or none that could be read.
        PartialError: Some images could not be read; the others are predicted.
        ResourceError: Out of memory or disk space; finished masks are kept.
    """
    if is_volume_run(run_path):
        # Readers of volumes are imported for volumes only.
        from guidino_cli.commands.prediction.volumes import run_volumes

        run_volumes(run_path, images, out, options)
        return
    require_values(options)
    refuse_options_of_volumes(options)
    rule = parse_postprocess_rule(options.post) if options.post not in {"none", "auto"} else None
    shard = select_shard(options.shard)
    jobs = find_jobs(images, options.split, recursive=options.recursive)
    require_unlocked_run_folder(out, content="folder")
    require_folder(out, images, options, shard)
    keep_all_freed_memory()
    loaded = load_ensemble(
        [run_path, *(options.ensemble or ())],
        overrides=tuple(options.overrides or ()),
        offline=options.offline,
        device=pick_device(local_rank_device(options.device)),
    )
    has_guide = any(member.model.guide is not None for member in loaded.predictor.members)
    require_possible(options, run_path, loaded.classes, has_guide=has_guide)
    rules = choose_rules(options, rule, run_path, loaded.classes, loaded.provenance)
    facts = summary_facts(loaded.runs, loaded.classes, loaded.provenance, options, rules)
    output = MaskWriter(out, options, rules, loaded.classes)
    output.require_distinct_paths(
        jobs, guide_maps=count_guide_maps([run_path, *(options.ensemble or ())], loaded.classes)
    )
    own = jobs[shard.number - 1 :: shard.count]
    # Shards write to one folder together; any other process would mix its masks with these.
    with lock_run_folder(out, shared=shard.count > 1, content="folder"):
        if shard.count == 1:
            # Another process may have begun and finished meanwhile.
            require_folder(out, images, options, shard)
        # Masks that are kept must have the same provenance, whatever may be overwritten.
        if options.skip_existing or (adds_masks(out, options, shard) and not options.overwrite):
            require_same_provenance(out, facts["made_with"])
        log_info(_start(len(jobs), own, shard, loaded))
        records = PredictionLog(out, shard, facts, keep=options.skip_existing)
        with interruptible(records, out, len(own)):
            predict_all(own, loaded, output, records, skip_existing=options.skip_existing)
        records.summarise(total=len(own), complete=True)
    finish(records, out, loaded.classes, options.values, noun="image")


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
