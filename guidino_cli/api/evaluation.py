"""`evaluate` in Python: the scores of masks as plain records."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guidino_cli.api.settings import make_options
from guidino_cli.commands.evaluate import describe_problems, score_masks
from guidino_cli.commands.evaluate_options import parse_options
from guidino_cli.errors import DataError
from guidino_cli.evaluation.report.files import case_records, summary_records
from guidino_cli.evaluation.summary import MEAN_OF_CLASSES
from guidino_cli.options.evaluation import EvaluateOptions


@dataclass(frozen=True)
class MaskScores:
    """Scores of a set of masks.

    Attributes:
        cases: One record for each case and class: "case", "target", "status", the metrics by name, the counts "tp",
            "fp", "fn" and "tn" in pixels, "unit" of the distances, "prediction", "truth" and "note". A metric that
            the policy leaves out is NaN; a missing or unusable prediction has status "missing" or "failed" and counts
            as the policy says, by default as the worst result.
        summary: One record for each class and metric, and for the mean over classes: "target", "metric", "unit",
            "mean", "std", "median", "ci_low" and "ci_high" of a 95 % bootstrap interval, and more.
        warnings: Warnings about the scores, such as cases without a prediction.
    """

    cases: list[dict[str, Any]]
    summary: list[dict[str, Any]]
    warnings: list[str]

    def mean(self, metric: str, target: str | None = None) -> float:
        """Mean of a metric over the cases.

        Args:
            metric: Metric, such as "dice".
            target: Name of a class or region; by default the only one, or the mean over classes.

        Raises:
            KeyError: No such metric or target.
        """
        means = {row["target"]: row["mean"] for row in self.summary if row["metric"] == metric and not row["stratum"]}
        wanted = target or (MEAN_OF_CLASSES if MEAN_OF_CLASSES in means else next(iter(means), ""))
        if wanted not in means:
            raise KeyError(f"no {metric} of {target or 'any class'}")
        return float(means[wanted])


def evaluate(predictions: str | Path, truth: str | Path, **options: Any) -> MaskScores:
    """Score predicted masks against true ones, as `guidino evaluate PREDICTIONS TRUTH`; nothing is printed or written.

    Args:
        predictions: Folder of masks, or one mask.
        truth: Folder of true masks, one mask, or a prepared folder.
        options: Those of the command line with underscores: `metrics="dice,hd95"`, `policy="nnunet"`,
            `split="test"`, `classes="background,polyp"`; see `guidino evaluate --help`. Options of reports and gates
            are refused.

    Raises:
        ConfigError: An unknown option, or one that cannot be used.
        DataError: There is nothing to compare, or mask values are ambiguous.
    """
    parsed = make_options(EvaluateOptions, options, refused=_OF_REPORTS)
    scored = score_masks(Path(predictions), Path(truth), parsed, parse_options(parsed, backend=parsed.backend))
    result = scored.result
    if len(result.absent) == len(result.config.targets):
        raise DataError("no mask of either side has a foreground pixel: there was nothing to score")
    warnings = [*scored.pairing.warnings, *scored.pairing.coverage, describe_problems(result)]
    return MaskScores(case_records(result), summary_records(result), [text for text in warnings if text])


_OF_REPORTS = (
    "out", "overwrite", "strict", "images", "min_dice", "min_iou", "max_hd95", "gate_on", "baseline", "max_drop",
    "as_json",
)  # fmt: skip
