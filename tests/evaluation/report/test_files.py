"""CSV tables and JSON of a hand-made result."""

import csv
import hashlib
import io
from math import inf, nan
from pathlib import Path

import pytest

from guidino_cli.evaluation.cases import Pair, Pairing, Truth
from guidino_cli.evaluation.gates import GateResult
from guidino_cli.evaluation.masks import index_reader
from guidino_cli.evaluation.report.files import (
    format_number,
    lesions_csv,
    per_case_csv,
    replace_nan,
    summary_csv,
    to_json,
)
from guidino_cli.evaluation.report.provenance import Provenance
from guidino_cli.evaluation.summary import EvaluationResult, aggregate
from guidino_cli.evaluation.types import CaseResult, Policy, Score, ScoringConfig, Target
from guidino_cli.metrics.lesions import Lesions
from guidino_cli.metrics.overlap import ConfusionCounts

METRICS = ("dice", "hd95", "lesion_f1")


@pytest.fixture
def result(tmp_path: Path) -> EvaluationResult:
    """A scored case with an object found and one missed, a missing one, and one whose truth cannot be read."""
    (tmp_path / "p1.png").write_bytes(b"prediction")
    (tmp_path / "t1.png").write_bytes(b"truth")
    counts = ConfusionCounts(2, 1, 1, 8)
    scored = Score("polyp", "ok", counts, dict(zip(METRICS, (0.5, 2.5, 0.5), strict=True)),
                   Lesions((3, 9), (True, False), 1), deviation=0.25)  # fmt: skip
    missing = Score("polyp", "missing", ConfusionCounts(0, 0, 3, 9), dict(zip(METRICS, (0.0, 5.0, nan), strict=True)))
    lost = Score("polyp", "failed", None, dict(zip(METRICS, (0.0, nan, nan), strict=True)))
    cases = [
        CaseResult(pair(tmp_path, "1"), (scored,), (3, 4), (0.5, 1.25), "mm"),
        CaseResult(pair(tmp_path, "2", is_missing=True), (missing,), (3, 4), (0.5, 1.25), "mm", "no prediction"),
        CaseResult(pair(tmp_path, "3"), (lost,), None, None, "mm", "t3.png: is empty"),
    ]
    config = ScoringConfig((Target("polyp", (1,)),), METRICS, Policy(), index_reader(2), index_reader(2))
    return aggregate(config, cases, strata=["x", "x", "y"])


def pair(folder: Path, name: str, *, is_missing: bool = False) -> Pair:
    return Pair(Truth(name, folder / f"t{name}.png", (name,)), None if is_missing else folder / f"p{name}.png")


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_for_each_case_holds_values_counts_and_files(result: EvaluationResult, tmp_path: Path) -> None:
    first, second, third = rows_of(per_case_csv(result))
    assert (first["case"], first["target"], first["status"]) == ("1", "polyp", "ok")
    assert [first[name] for name in METRICS] == ["0.5", "2.5", "0.5"]
    assert [first[name] for name in ("tp", "fp", "fn", "tn")] == ["2", "1", "1", "8"]
    assert [first[f"objects_{name}"] for name in ("true", "found", "extra")] == ["2", "1", "1"]
    assert (first["unit"], first["spacing"], first["size"]) == ("mm", "0.5x1.25", "3x4")
    assert (first["prediction"], first["truth"]) == (str(tmp_path / "p1.png"), str(tmp_path / "t1.png"))
    assert (second["prediction"], second["note"], second["lesion_f1"]) == ("", "no prediction", "")
    assert [third[name] for name in ("tp", "tn", "objects_true", "spacing", "size")] == [""] * 5


def test_the_summary_has_rows_of_all_cases_and_of_strata(result: EvaluationResult) -> None:
    rows = rows_of(summary_csv(result))
    assert [(row["stratum"], row["metric"], row["unit"]) for row in rows[:4]] == [
        ("", "dice", ""), ("", "hd95", "mm"), ("", "lesion_f1", ""), ("x", "dice", ""),
    ]  # fmt: skip
    assert (rows[3]["mean"], rows[3]["n_used"], rows[3]["n_total"], rows[3]["min"], rows[3]["max"]) == (
        "0.25", "2", "2", "0.0", "0.5",
    )  # fmt: skip
    assert (rows[2]["mean"], rows[2]["std"], rows[2]["n_used"], rows[2]["n_total"]) == ("0.5", "", "1", "3")


def test_recall_by_size_has_a_row_for_each_size(result: EvaluationResult) -> None:
    assert [tuple(row.values()) for row in rows_of(lesions_csv(result))] == [
        ("polyp", "3", "3", "1", "1", "1.0"), ("polyp", "9", "9", "0", "1", "0.0"),
    ]  # fmt: skip


def test_the_report_holds_what_is_needed_to_check_it(result: EvaluationResult) -> None:
    gates = [GateResult("dice >= 0.1", 0.5, True, "n = 3/3")]
    provenance = Provenance("masks/", "truth/", ["runs/a"], "2026-01-02T03:04:05+00:00")
    report = to_json(
        result, Pairing([], [Path("extra.png")], "same name", ["odd"]), provenance, command=["x"], gates=gates
    )
    assert (report["schema"], report["headline"], report["unit"], report["command"]) == (1, "polyp", "mm", ["x"])
    assert report["counts"]["cases"] == 3
    assert report["pairing"]["extra_predictions"] == ["extra.png"]
    gate = {"name": "dice >= 0.1", "value": 0.5, "passed": True, "note": "n = 3/3"}
    assert {name: report["gates"][0][name] for name in gate} == gate
    assert report["medpy_deviation"] == 0.25
    # How many objects the lost cases would have had is unknown.
    lesions = {"f1": None, "recall": None, "precision": None, "true": 2, "found": 1, "extra": 1}
    assert {name: report["lesions"]["polyp"][name] for name in lesions} == lesions
    # The missing prediction counts as wrong everywhere, and the 12 pixels of the lost truth as missed.
    assert report["pooled"]["polyp"] == {"iou": 2 / 28, "dice": 4 / 30, "tp": 2, "fp": 10, "fn": 16, "tn": 8}
    first, second, third = report["cases"]
    assert first["truth_sha256"] == hashlib.sha256(b"truth").hexdigest()
    assert first["prediction_sha256"] == hashlib.sha256(b"prediction").hexdigest()
    assert (second["prediction"], second["prediction_sha256"], second["scores"][0]["lesion_f1"]) == (None, None, None)
    assert (third["size"], third["truth_sha256"], "tp" in third["scores"][0]) == (None, None, False)
    assert set(report["strata"]) == {"x", "y"}


@pytest.mark.parametrize(("value", "text"), [(nan, ""), (0.1, "0.1"), (1 / 3, "0.3333333333333333"), (2, "2.0")])
def test_numbers_keep_all_digits(value: float, text: str) -> None:
    assert format_number(value) == text


def test_nan_is_null_and_infinity_is_text() -> None:
    assert replace_nan({"a": [nan, (inf, -inf)], "b": {"c": 1.5, "d": "x", "e": 3}}) == {
        "a": [None, ["inf", "-inf"]], "b": {"c": 1.5, "d": "x", "e": 3},
    }  # fmt: skip
