"""`guidino probe`: simple classifiers on frozen features, beside those of a random network and the pixels."""

import json
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from guidino_cli.data.feature_folder import FeatureFolder, read_feature_folder
from guidino_cli.errors import ConfigError, DependencyError, GateError, unknown_name
from guidino_cli.evaluation.probes.decisions import THRESHOLD_RULES
from guidino_cli.evaluation.probes.samples import Pool
from guidino_cli.options.parsing import split_names
from guidino_cli.options.probing import BagProbeOptions, LinearProbeOptions, NeighbourProbeOptions, ProbeOptions
from guidino_cli.outputs import require_output_folder
from guidino_cli.progress import log_warning, progress_bar

if TYPE_CHECKING:
    from guidino_cli.evaluation.gates import GateResult
    from guidino_cli.evaluation.probes.parts import Partition
    from guidino_cli.evaluation.probes.report import ProbeReport
    from guidino_cli.evaluation.probes.rows import FeatureSource, ProbeRow
    from guidino_cli.evaluation.probes.samples import ProbeSamples
    from guidino_cli.evaluation.probes.scores import ProbeScorer

_SOLVERS = ("exact", "paper", "sweep")
_GATED = ("mean", "ci-low")


def run_linear(places: Sequence[Path], options: LinearProbeOptions) -> "ProbeReport":
    """Fit linear probes, write the report and return it.

    Raises:
        ConfigError: An option is invalid.
        DataError: Features that cannot be used, or a part with one class.
        DependencyError: scikit-learn is not installed.
        GateError: Everything is written, but a gate failed.
    """
    folders = _open(places, options)
    # torch is imported from here on.
    from guidino_cli.evaluation.probes.exact import solve_exact
    from guidino_cli.evaluation.probes.gradient import solve_paper, solve_sweep
    from guidino_cli.evaluation.probes.rows import run_solvers

    known = {"exact": solve_exact, "paper": solve_paper, "sweep": solve_sweep}
    names = split_names(options.solver)
    data, partitions, rule, sources, scorer = _set_up(folders, options)
    with progress_bar() as bar:
        total = len(sources) * len(names) * len(partitions)
        task = bar.add_task("linear probes", total=total, note="")
        rows = run_solvers(
            sources, data, partitions, [(name, known[name]) for name in dict.fromkeys(names)],
            scorer=scorer, pool=options.pool, threshold=options.threshold,  # type: ignore[arg-type]
            on_run=lambda: bar.advance(task),
        )  # fmt: skip
    return _finish("linear", options, data, partitions, rule, rows, rows[0], scorer, pool=options.pool)


def run_neighbours(places: Sequence[Path], options: NeighbourProbeOptions) -> "ProbeReport":
    """Vote of nearest neighbours; errors as of `run_linear`."""
    folders = _open(places, options)
    from functools import partial

    from guidino_cli.evaluation.probes.neighbours import choose_k, solve_neighbours
    from guidino_cli.evaluation.probes.rows import best_rows, run_solvers

    data, partitions, rule, sources, scorer = _set_up(folders, options)
    chosen, notes = choose_k(_parse_numbers(options.k), min(len(part.train) for part in partitions))
    with progress_bar() as bar:
        task = bar.add_task("neighbours", total=len(sources) * len(chosen) * len(partitions), note="")
        rows = run_solvers(
            sources, data, partitions, [(f"k {k}", partial(solve_neighbours, k=k)) for k in chosen],
            scorer=scorer, pool=options.pool, threshold=options.threshold,  # type: ignore[arg-type]
            on_run=lambda: bar.advance(task),
        )  # fmt: skip
    best = best_rows(rows)
    return _finish(
        "knn", options, data, partitions, rule, rows, best[0], scorer, pool=options.pool, notes=notes, compared=best
    )


def run_abmil(places: Sequence[Path], options: BagProbeOptions) -> "ProbeReport":
    """Train attention over bags and write it; errors as of `run_linear`."""
    folders = _open(places, options)
    from guidino_cli.evaluation.probes.attention import run_bags
    from guidino_cli.evaluation.probes.exact import solve_exact
    from guidino_cli.evaluation.probes.rows import run_solvers

    data, partitions, rule, sources, scorer = _set_up(folders, options)
    notes = []
    single = sum(sample.instance_count == 1 for sample in data.samples)
    if single == len(data):
        raise ConfigError(
            f"{places[0]}: every bag has one instance, which attention cannot weigh; use `guidino probe linear`, or "
            "make features of tiles with a column bag"
        )
    if single:
        notes.append(f"{single} of {len(data)} bags have one instance, whose attention is 1 whatever it shows")
    with progress_bar() as bar:
        total = len(sources) * len(partitions) * (options.epochs + 1)
        task = bar.add_task("attention", total=total, note="")
        rows = run_bags(
            sources, data, partitions, scorer=scorer, epochs=options.epochs, threshold=options.threshold,
            on_epoch=lambda: bar.advance(task),
        )  # fmt: skip
        means = run_solvers(
            sources, data, partitions, [("mean, exact", solve_exact)], scorer=scorer, pool="mean",
            threshold=options.threshold, on_run=lambda: bar.advance(task),
        )  # fmt: skip
    ordered = [row for pair in zip(rows, means, strict=True) for row in pair]
    return _finish("abmil", options, data, partitions, rule, ordered, rows[0], scorer, pool="", notes=notes)


def check_options(options: ProbeOptions) -> None:
    """`ConfigError` for values that cannot be; nothing heavy is imported."""
    if isinstance(options, LinearProbeOptions):
        for name in split_names(options.solver) or [options.solver]:
            if name not in _SOLVERS:
                raise ConfigError(f"--solver: {unknown_name('solver', name, _SOLVERS)}")
    if isinstance(options, NeighbourProbeOptions):
        _parse_numbers(options.k)
    for option, value, known in (
        ("pool", getattr(options, "pool", "mean"), get_args(Pool)),
        ("threshold", options.threshold, THRESHOLD_RULES),
        ("gate-on", options.gate_on, _GATED),
    ):
        if value not in known:
            raise ConfigError(f"--{option}: {unknown_name('value', value, known)}")
    for option, limit in (("min-auc", options.min_auc), ("min-balanced-accuracy", options.min_balanced_accuracy)):
        if limit is not None and not 0 <= limit <= 1:
            raise ConfigError(f"--{option} {limit:g}: expected a share from 0 to 1")


def _open(places: Sequence[Path], options: ProbeOptions) -> list[FeatureFolder]:
    """Check the options, then open the folders: nothing heavy is imported yet."""
    check_options(options)
    _require_different(places)
    if find_spec("sklearn") is None:
        raise DependencyError("guidino probe needs scikit-learn; pip install 'guidino[probe]'")
    require_output_folder(options.out, places, overwrite=options.overwrite)
    return [read_feature_folder(place) for place in places]


def _require_different(places: Sequence[Path]) -> None:
    """`ConfigError` if a folder is given twice, under whatever names: its rows could not be told apart."""
    seen: dict[Path, Path] = {}
    for place in places:
        first = seen.setdefault(place.resolve(), place)
        if first is not place:
            other = "" if first == place else f" (as {first})"
            raise ConfigError(f"{place}: is given twice{other}; give each folder of features once")


def _parse_numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"--k {text}: expected whole numbers above 0, such as 10,20")
    return sorted({int(part) for part in parts})


def _set_up(
    folders: Sequence[FeatureFolder], options: ProbeOptions
) -> "tuple[ProbeSamples, list[Partition], str, list[FeatureSource], ProbeScorer]":
    from guidino_cli.evaluation.probes.parts import make_partitions
    from guidino_cli.evaluation.probes.rows import collect_alike, list_sources
    from guidino_cli.evaluation.probes.scores import ProbeScorer

    data = collect_alike(folders)
    partitions, rule = make_partitions(
        data, folds=options.folds, seeds=range(options.seeds), per_class=options.per_class
    )
    return data, partitions, rule, list_sources(folders), ProbeScorer(data, partitions)


def _finish(
    probe: str,
    options: ProbeOptions,
    data: "ProbeSamples",
    partitions: "Sequence[Partition]",
    rule: str,
    rows: "Sequence[ProbeRow]",
    headline: "ProbeRow",
    scorer: "ProbeScorer",
    *,
    pool: str,
    notes: Sequence[str] = (),
    compared: "Sequence[ProbeRow] | None" = None,
) -> "ProbeReport":
    import numpy as np

    from guidino_cli.commands.probe_report import print_report, write_report
    from guidino_cli.evaluation.probes.parts import describe_missing
    from guidino_cli.evaluation.probes.report import ProbeReport, to_json
    from guidino_cli.evaluation.probes.sanity import check_leakage
    from guidino_cli.evaluation.probes.scores import score_difference
    from guidino_cli.evaluation.report.files import dump_json

    if compared is None:
        compared = [row for row in rows if row.solver == headline.solver]
    controls = [row for row in compared if row.source.is_control]
    missing = {"random", "pixels"} - {row.source.kind for row in rows}
    lacking = ["no control of " + " and of ".join(sorted(missing)) + ": made with --no-controls"] if missing else []
    tested = np.unique(np.concatenate([part.test for part in partitions]))
    report = ProbeReport(
        probe=probe,
        data=data,
        partitions=partitions,
        rule=rule,
        rows=rows,
        headline=headline,
        compared=compared,
        differences=[(row, score_difference(headline.draws, row.draws, "auc")) for row in controls],
        sanity=check_leakage(data, tested, scorer.targets),
        notes=[*data.notes, *describe_missing(data, partitions), *notes, *lacking],
        gates=_check_gates(headline, options),
        group_count=scorer.group_count,
        threshold=options.threshold,
        pool=pool,
    )
    created = datetime.now().astimezone().isoformat(timespec="seconds")
    content = to_json(report, command=sys.argv[1:], created=created)
    sheets = options.sheets if isinstance(options, BagProbeOptions) else 0
    written = write_report(options.out, report, content, created=created, sheets=sheets)
    for note in report.notes:
        log_warning(note)
    if options.as_json:
        print(json.dumps(json.loads(dump_json(content)), indent=1))
    else:
        print_report(report, options.out, written)
    failed = [gate for gate in report.gates if not gate.passed]
    if failed:
        raise GateError("; ".join(gate.sentence for gate in failed))
    return report


def _check_gates(row: "ProbeRow", options: ProbeOptions) -> "list[GateResult]":
    """Gates on the headline; one that cannot be measured fails."""
    from guidino_cli.evaluation.gates import GateResult
    from guidino_cli.evaluation.probes.scores import MACRO

    results = []
    for metric, limit in (("auc", options.min_auc), ("balanced_accuracy", options.min_balanced_accuracy)):
        if limit is None:
            continue
        score = row.scores[MACRO, metric]
        value = score.mean if options.gate_on == "mean" else score.low
        passed = not math.isnan(value) and value >= limit
        note = f"classes {score.defined}/{score.total}"
        results.append(GateResult(f"{metric} >= {limit:g} ({options.gate_on}, {row.name})", value, passed, note))
    return results
