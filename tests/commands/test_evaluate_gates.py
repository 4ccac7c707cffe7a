"""Gates, report files, regions, groups and strata of `guidino evaluate`, through the command line."""

import csv
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def square(shift: int = 0, value: int = 1) -> np.ndarray:
    mask = np.zeros((12, 16), dtype=np.uint8)
    mask[2:6, 2 + shift : 6 + shift] = value
    return mask


Run = Callable[..., int]


class PageElements(HTMLParser):
    """The parts of a page that a browser would make of it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.texts: list[str] = []
        self.alternative_texts: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.alternative_texts += [value for name, value in attrs if name == "alt"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.fixture
def folders(mask_folders: Callable[..., Path]) -> Path:
    """Two cases: a is perfect, b half right (Dice 0.5, IoU 1/3, HD95 2 px)."""
    return mask_folders(truth={"a": square(), "b": square()}, predictions={"a": square(), "b": square(2)})


@pytest.fixture
def evaluate(folders: Path, run: Run) -> Run:
    """Score the folders into `report`, with further words."""
    arguments = ("evaluate", folders / "predictions", folders / "truth", "-o", folders / "report", "--overwrite")
    return lambda *more: run(*arguments, *more)


def report(folders: Path) -> dict:
    return json.loads((folders / "report" / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--min-dice", "0.75"), 0),
        (("--min-dice", "0.76"), 8),
        (("--min-dice", "0.5", "--gate-on", "worst"), 0),
        (("--min-dice", "0.51", "--gate-on", "worst"), 8),
        (("--max-hd95", "1"), 0),
        (("--max-hd95", "0.9"), 8),
        (("--max-hd95", "1.9", "--gate-on", "worst"), 8),
        (("--min-iou", "foreground=0.6"), 0),
        (("--min-iou", "polyp=0.6"), 2),
        (("--min-iou", "much"), 2),
        (("--min-dice", "85"), 2),
        (("--min-dice", "-1"), 2),
        (("--min-iou", "foreground=1.01"), 2),
        (("--max-hd95", "-0.1"), 2),
        (("--max-hd95", "inf"), 2),
        (("--max-drop", "5"), 2),
        (("--max-drop", "-0.1"), 2),
        (("--max-drop", "nan"), 2),
        (("--tolerance", "nan"), 2),
        (("--tolerance", "inf"), 2),
        (("--lesion-iou", "50"), 2),
        (("--threshold", "nan"), 2),
        (("--pred-threshold", "inf"), 2),
        (("--seed", "-1"), 2),
        (("--min-dice", "0.1", "--gate-on", "best"), 2),
    ],
)
def test_gates_decide_the_exit_code(folders: Path, arguments: tuple[str, ...], code: int, evaluate: Run) -> None:
    assert evaluate(*arguments) == code


@pytest.mark.parametrize(
    ("arguments", "share"),
    [(("--min-dice", "85"), "0.85"), (("--max-drop", "2"), "0.02"), (("--lesion-iou", "10"), "0.1")],
)
def test_a_percentage_is_answered_with_the_share_that_works(
    evaluate: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str], share: str
) -> None:
    assert evaluate(*arguments) == 2
    assert f"expected a share from 0 to 1; did you mean {share}?" in capsys.readouterr().err
    assert evaluate(arguments[0], share) in {0, 8}


@pytest.mark.parametrize(
    "arguments",
    [
        ("--min-dice", "polyp=0.6"),
        ("--baseline", "bad.json"),
        ("--by", "empty.csv"),
        ("--group", "empty.csv"),
        ("--by", "twice.csv"),
        ("--images", "nowhere"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_scored(
    folders: Path, evaluate: Run, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, str]
) -> None:
    (folders / "bad.json").write_text('{"schema": 1, "summary": 5, "headline": "x", "policy": {}, "cases": []}')
    (folders / "empty.csv").write_text("")
    (folders / "twice.csv").write_text("case,site\na,1\nb,1\na,2\n")
    monkeypatch.chdir(folders)
    monkeypatch.setattr("guidino_cli.evaluation.evaluator.score_cases", lambda *_, **__: pytest.fail("was scored"))
    assert evaluate(*arguments) in {2, 3}


@pytest.mark.parametrize("arguments", [("--lesion-iou", "2"), ("--min-dice", "1.5"), ("--lesion-iou", "-1")])
def test_a_number_that_is_no_likely_percentage_is_not_made_a_share(
    evaluate: Run, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    assert evaluate(*arguments) == 2
    message = capsys.readouterr().err
    assert "expected a share from 0 to 1" in message
    assert "did you mean" not in message


def test_all_files_are_written_before_a_gate_fails(folders: Path, evaluate: Run) -> None:
    assert evaluate("--min-dice", "0.99") == 8
    names = {path.name for path in (folders / "report").iterdir()}
    assert names == {"report.json", "report.html", "report.md", "per_case.csv", "summary.csv", "junit.xml"}
    assert report(folders)["gates"][0]["passed"] is False


def test_a_gate_fails_when_there_is_nothing_to_score(folders: Path, evaluate: Run) -> None:
    for path in folders.glob("*/*.png"):
        Image.fromarray(square() * 0).save(path)
    assert evaluate("--min-dice", "0") == 8


def test_a_gate_fails_on_an_interval_that_does_not_exist(folders: Path, evaluate: Run) -> None:
    for side in ("truth", "predictions"):
        (folders / side / "b.png").unlink()
    assert evaluate("--min-dice", "0.5", "--gate-on", "ci-low") == 8


def test_a_gated_metric_is_measured_even_if_not_requested(folders: Path, evaluate: Run) -> None:
    assert evaluate("--metrics", "iou", "--min-dice", "0.7") == 0


def test_a_drop_below_the_baseline_fails(folders: Path, run: Run, evaluate: Run) -> None:
    assert run("evaluate", folders / "truth", folders / "truth", "-o", folders / "good") == 0
    assert evaluate("--baseline", folders / "good" / "report.json") == 8
    assert evaluate("--baseline", folders / "good", "--max-drop", "0.5") == 0


@pytest.mark.parametrize("statistic", ["mean", "ci-low", "worst"])
def test_the_gate_of_a_baseline_says_that_it_compares_means(
    folders: Path, run: Run, evaluate: Run, statistic: str
) -> None:
    """Whatever statistic the other gates compare, the drop is 1 less the mean of these cases."""
    assert run("evaluate", folders / "truth", folders / "truth", "-o", folders / "good") == 0
    assert evaluate("--metrics", "iou,dice,hd95", "--baseline", folders / "good", "--gate-on", statistic) == 8
    found = report(folders)
    means = {row["metric"]: row["mean"] for row in found["summary"] if row["target"] == found["headline"]}
    drops = {gate["name"]: gate["value"] for gate in found["gates"]}
    assert drops == {
        f"{metric} drop <= 0.01 (mean, {found['headline']})": pytest.approx(1 - means[metric])
        for metric in ("iou", "dice")
    }


def test_a_baseline_with_other_cases_fails(folders: Path, evaluate: Run) -> None:
    assert evaluate() == 0
    (folders / "report").rename(folders / "old")
    for side in ("truth", "predictions"):
        (folders / side / "b.png").rename(folders / side / "c.png")
    assert evaluate("--baseline", folders / "old", "--max-drop", "1") == 8


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (("--metrics", "dice,nsd", "--tolerance", "0.1"), ("--metrics", "dice,nsd", "--tolerance", "20")),
        (("--metrics", "dice,lesion_f1"), ("--metrics", "dice,lesion_f1", "--lesion-iou", "0.9")),
        ((), ("--spacing", "0.5")),
        ((), ("--regions", "all=1")),
        ((), ("--binary",)),
        ((), ("--threshold", "0.5")),
        ((), ("--pred-threshold", "0.5")),
        ((), ("--ignore-label", "9")),
        ((), ("--resample", "nearest")),
        ((), ("--hd95", "max")),
        ((), ("--policy", "nnunet")),
    ],
)
def test_a_baseline_of_other_settings_fails(
    folders: Path, evaluate: Run, before: tuple[str, ...], now: tuple[str, ...]
) -> None:
    assert evaluate(*before) == 0
    (folders / "report").rename(folders / "old")
    assert evaluate(*before, "--baseline", folders / "old") == 0
    assert evaluate(*now, "--baseline", folders / "old", "--max-drop", "1") == 8


def test_a_metric_of_the_baseline_that_is_not_measured_is_refused(
    folders: Path, evaluate: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--metrics", "iou,dice") == 0
    (folders / "report").rename(folders / "old")
    assert evaluate("--metrics", "iou", "--baseline", folders / "old") == 2
    assert "give --metrics iou,dice" in capsys.readouterr().err


@pytest.mark.parametrize(("value", "code"), [("-Infinity", 3), ("-1e999", 3), ("null", 8), ('"0.1"', 8), ("true", 8)])
def test_a_baseline_mean_that_is_no_number_never_passes(folders: Path, evaluate: Run, value: str, code: int) -> None:
    assert evaluate("--metrics", "dice") == 0
    (folders / "report").rename(folders / "old")
    path = folders / "old" / "report.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["summary"][0]["mean"] = "VALUE"
    path.write_text(json.dumps(content).replace('"VALUE"', value), encoding="utf-8")
    assert evaluate("--metrics", "dice", "--baseline", folders / "old") == code


_GOOD = {
    "schema": 1,
    "headline": "foreground",
    "summary": [{"target": "foreground", "metric": "dice", "mean": 0.5}],
    "policy": {},
    "cases": [{"case": "a"}],
}


_WRONG_TYPES = [
    _GOOD | {key: bad}
    for key in ("headline", "summary", "policy", "cases")
    for bad in (5, None, [1], {"a": 1})
    if not (key == "policy" and isinstance(bad, dict))
]
_WRONG_ROWS = [
    _GOOD | {"summary": [{"target": "foreground"}]},
    _GOOD | {"summary": [{"target": "foreground", "metric": ["dice"], "mean": 1}]},
    _GOOD | {"summary": [{"target": "foreground", "metric": "unknown", "mean": 1}]},
    _GOOD | {"cases": [{"case": 7}]},
]
_MISSING = [{name: _GOOD[name] for name in _GOOD if name != key} for key in _GOOD if key != "schema"]
_MALFORMED = [json.dumps(content) for content in [*_WRONG_TYPES, *_WRONG_ROWS, *_MISSING]]


@pytest.mark.parametrize("text", ["", "[]", "null", '"report"', "[" * 100_000, *_MALFORMED])
def test_a_malformed_baseline_is_named_before_scoring(
    folders: Path, evaluate: Run, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (folders / "old.json").write_text(text)
    assert evaluate("--baseline", folders / "old.json") == 3
    printed = capsys.readouterr()
    assert "old.json" in printed.err
    assert printed.err.count("\n") == 1
    assert not (folders / "report").exists()


def test_an_unusual_but_valid_baseline_is_compared_and_the_report_kept(folders: Path, evaluate: Run) -> None:
    content = _GOOD | {"settings": {"binary": [1]}, "definitions": "none", "policy": {"name": ["guidino"]}}
    (folders / "old.json").write_text(json.dumps(content))
    assert evaluate("--baseline", folders / "old.json") == 8
    assert report(folders)["gates"][0]["passed"] is False


def test_an_unchanged_result_passes_a_drop_of_zero(folders: Path, evaluate: Run) -> None:
    assert evaluate() == 0
    (folders / "report").rename(folders / "old")
    assert evaluate("--baseline", folders / "old", "--max-drop", "0") == 0


def test_unreadable_truths_count_as_the_diagonal_in_a_gate_on_distances(folders: Path, evaluate: Run) -> None:
    """Case a is perfect (0 px); the truth of case b is lost, so its distance is the diagonal of 12 x 16, 20 px."""
    (folders / "truth" / "b.png").write_bytes(b"lost")
    assert evaluate("--max-hd95", "9.9") == 8
    means = {row["metric"]: row["mean"] for row in report(folders)["summary"]}
    assert means["hd95"] == 10
    assert means["dice"] == 0.5


def test_a_baseline_that_is_not_a_report_is_an_error(folders: Path, evaluate: Run) -> None:
    assert evaluate("--baseline", folders / "truth" / "a.png") == 3


def test_junit_has_one_test_per_gate_and_one_for_the_cases(folders: Path, evaluate: Run) -> None:
    (folders / "predictions" / "b.png").unlink()
    assert evaluate("--min-dice", "0.4", "--min-iou", "0.6") == 8
    suite = ElementTree.parse(folders / "report" / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")


def test_the_page_loads_nothing_from_elsewhere_and_escapes_names(folders: Path, evaluate: Run) -> None:
    for side in ("truth", "predictions"):
        (folders / side / "b.png").rename(folders / side / "<b onload=x>&.png")
    assert evaluate() == 0
    page = (folders / "report" / "report.html").read_text(encoding="utf-8")
    assert "<b onload" not in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("data:image/png;base64,") >= 2


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "\"'><b>&amp;"])
def test_the_page_escapes_class_names_and_cases_wherever_they_occur(folders: Path, evaluate: Run, hostile: str) -> None:
    """Two classes, of which one has the name, in summary, histograms, cases, gates and strata."""
    name = hostile.replace("/", "_")
    for side in ("truth", "predictions"):
        Image.fromarray(square(0, 1) + square(6, 2)).save(folders / side / f"{name}.png")
    arguments = ("--classes", f"background,{hostile},cup", "--min-dice", "cup=0.1", "--by", "(.*)")
    assert evaluate(*arguments) == 0
    page = PageElements((folders / "report" / "report.html").read_text(encoding="utf-8"))
    assert page.tags.count("script") == 1
    assert not page.handlers
    assert hostile in page.texts
    assert any(name in text for text in page.texts)
    assert f"overlay of {name}" in page.alternative_texts


def test_markdown_escapes_a_pipe_in_a_name(folders: Path, evaluate: Run) -> None:
    assert evaluate("--regions", "le|sion=1") == 0
    text = (folders / "report" / "report.md").read_text(encoding="utf-8")
    assert "le\\|sion" in text


def test_regions_merge_classes(folders: Path, evaluate: Run) -> None:
    """Rim and cup swapped everywhere: no class is right, the whole disc is."""
    truth = square(0, 1) + square(6, 2)
    for name in "ab":
        Image.fromarray(truth).save(folders / "truth" / f"{name}.png")
        Image.fromarray(np.array([0, 2, 1], dtype=np.uint8)[truth]).save(folders / "predictions" / f"{name}.png")
    assert evaluate("--regions", "disc=1+2,cup=class_2", "--metrics", "dice") == 0
    means = {line["target"]: line["mean"] for line in report(folders)["summary"]}
    assert means == {"disc": 1.0, "cup": 0.0, "mean of classes": 0.5}


def test_an_unknown_class_in_a_region_is_an_error(folders: Path, evaluate: Run) -> None:
    assert evaluate("--regions", "disc=1+5") == 2


def test_ignored_pixels_do_not_affect_the_metrics(folders: Path, evaluate: Run) -> None:
    truth = square()
    truth[2:6, 6:8] = 255
    Image.fromarray(truth).save(folders / "truth" / "b.png")
    Image.fromarray(square(0) | square(2)).save(folders / "predictions" / "b.png")
    assert evaluate("--ignore-label", "255", "--min-dice", "1", "--max-hd95", "0") == 0


def test_groups_and_strata_are_recorded(folders: Path, evaluate: Run) -> None:
    assert evaluate("--group", "^(.)", "--by", "a|b") == 0
    content = report(folders)
    assert content["definitions"]["interval_groups"] == 2
    assert content["strata"]["b"][1]["mean"] == 0.5
    with (folders / "report" / "summary.csv").open(encoding="utf-8") as file:
        assert {row["stratum"] for row in csv.DictReader(file)} == {"", "a", "b"}


def test_an_unknown_column_for_strata_is_an_error(
    folders: Path, capsys: pytest.CaptureFixture[str], evaluate: Run
) -> None:
    assert evaluate("--by", "scanner") == 3
    assert "scanner" in capsys.readouterr().err


def test_classes_can_name_grey_values(folders: Path, evaluate: Run) -> None:
    for name in "ab":
        Image.fromarray(square(0, 85) + square(6, 255)).save(folders / "truth" / f"{name}.png")
        Image.fromarray(square(0, 1) + square(6, 2)).save(folders / "predictions" / f"{name}.png")
    arguments = ("--classes", "0=background,85=rim,255=cup", "--metrics", "dice")
    assert evaluate(*arguments, "--min-dice", "rim=1", "--min-dice", "cup=1") == 0


def test_probabilities_without_a_threshold_are_an_error_that_suggests_one(
    folders: Path, capsys: pytest.CaptureFixture[str], evaluate: Run
) -> None:
    for name in "ab":
        np.save(folders / "predictions" / f"{name}.npy", square() * 0.7)
        (folders / "predictions" / f"{name}.png").unlink()
    assert evaluate() == 3
    assert "--pred-threshold 0.5" in capsys.readouterr().err
    assert evaluate("--pred-threshold", "0.5", "--min-dice", "1") == 0


def test_instance_metrics_read_instance_numbers(folders: Path, evaluate: Run) -> None:
    for name in "ab":
        Image.fromarray(square(0, 3) + square(6, 9)).save(folders / "truth" / f"{name}.png")
        Image.fromarray(square(0, 200) + square(6, 1)).save(folders / "predictions" / f"{name}.png")
    assert evaluate("--metrics", "dice,are,voi") == 0
    means = {line["metric"]: line["mean"] for line in report(folders)["summary"]}
    assert means == {"dice": 1.0, "are": pytest.approx(0), "voi": pytest.approx(0)}
    rules = [line for line in (folders / "report" / "report.md").read_text().splitlines() if "policy" in line]
    assert [line.split(":")[0].lstrip("- ") for line in rules] == ["policy guidino", "policy guidino of instances"]
    assert evaluate("--metrics", "are") == 0
    assert "image diagonal" not in (folders / "report" / "report.md").read_text()


@pytest.mark.parametrize("settings", [{"LC_ALL": "C", "PYTHONUTF8": "0"}, {"NO_COLOR": "1", "COLUMNS": "80"}])
def test_piped_output_is_plain_and_fits_80_columns(folders: Path, settings: dict[str, str], run: Run) -> None:
    arguments = ["evaluate", str(folders / "predictions"), str(folders / "truth")]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LC_", "PYTHONUTF8"))}
    done = subprocess.run(
        [sys.executable, "-m", "guidino_cli", *arguments], capture_output=True, env=environment | settings, check=True
    )
    text = done.stdout.decode("ascii" if "LC_ALL" in settings else "utf-8")
    assert "\x1b" not in text
    assert done.stderr == b""
    table = text[text.index("metric") : text.index("pooled")]
    assert max(len(line) for line in table.splitlines()) <= 80
    assert "..." not in table.replace(" .. ", "")


def test_medpy_recomputes_the_surface_metrics_and_agrees(folders: Path, evaluate: Run) -> None:
    assert evaluate("--backend", "medpy", "--metrics", "hd95,assd") == 0
    content = report(folders)
    assert content["backend"] == "medpy"
    assert content["medpy_deviation"] < 1e-12
    assert [line["mean"] for line in content["summary"]] == [1.0, pytest.approx(0.5)]


def test_medpy_with_the_max_definition_is_an_error(folders: Path, evaluate: Run) -> None:
    assert evaluate("--backend", "medpy", "--hd95", "max") == 2


def test_recall_by_size_is_in_every_report(folders: Path, capsys: pytest.CaptureFixture[str], evaluate: Run) -> None:
    """Five objects of 1, 4, 9, 16 and 16 pixels; the prediction finds the two largest."""
    truth, found = np.zeros((2, 12, 30), dtype=np.uint8)
    for left, size in ((0, 1), (3, 2), (7, 3), (12, 4), (20, 4)):
        truth[1 : 1 + size, left : left + size] = 1
    found[:, 11:] = truth[:, 11:]
    Image.fromarray(truth).save(folders / "truth" / "b.png")
    Image.fromarray(found).save(folders / "predictions" / "b.png")
    (folders / "predictions" / "a.png").write_bytes(b"")
    assert evaluate("--metrics", "lesion_recall") == 6
    out = folders / "report"
    with (out / "lesions.csv").open(encoding="utf-8") as file:
        bins = [(row["smallest"], row["largest"], row["found"], row["total"]) for row in csv.DictReader(file)]
    assert bins == [("1", "4", "0", "2"), ("9", "9", "0", "1"), ("16", "16", "2", "3")]
    with (out / "per_case.csv").open(encoding="utf-8") as file:
        rows = [(row["objects_true"], row["objects_found"], row["unit"]) for row in csv.DictReader(file)]
    assert rows == [("1", "0", "px"), ("5", "2", "px")]
    assert "| 9 pixels | 0/1 | 0.0000 |" in (out / "report.md").read_text(encoding="utf-8")
    assert "<td>9 pixels</td><td>0/1</td>" in (out / "report.html").read_text(encoding="utf-8")
    assert "1 .. 4 pixels" in capsys.readouterr().out


def test_without_lesion_metrics_there_is_no_lesion_table(folders: Path, evaluate: Run) -> None:
    assert evaluate() == 0
    assert not (folders / "report" / "lesions.csv").exists()


def test_the_mean_distance_is_also_given_over_the_measured_cases(
    folders: Path, capsys: pytest.CaptureFixture[str], evaluate: Run
) -> None:
    """Case a is missed: its distance is the diagonal, 20. Case b measures 2."""
    Image.fromarray(square() * 0).save(folders / "predictions" / "a.png")
    assert evaluate("--metrics", "hd95") == 0
    message = " ".join(capsys.readouterr().out.split())
    assert "distances measured in 1 of 2 (mean of these: HD95 2.00); 1 count as the image diagonal" in message
    assert report(folders)["distances"] == {"ok": 1, "diagonal": 1, "zero": 0, "means": {"hd95": 2.0}}
    assert report(folders)["summary"][0]["mean"] == 11.0


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_an_unusable_report_folder_is_an_error_before_scoring(
    folders: Path, capsys: pytest.CaptureFixture[str], command: str, run: Run
) -> None:
    (folders / "file").write_text("precious")
    places = [folders / "predictions", folders / "truth"]
    arguments = places if command == "evaluate" else [*places, "--truth", folders / "truth"]
    for out, message in ((folders / "file" / "deep" / "report", "cannot be written"), (folders / "file", "is a file")):
        assert run(command, *arguments, "-o", out) == 2
        printed = capsys.readouterr()
        assert message in printed.err
        assert printed.out == ""
    assert run(command, *arguments, "-o", folders / "truth", "--overwrite") == 2
    assert (folders / "file").read_text() == "precious"


def test_options_for_mask_values_of_prepared_data_are_an_error(
    make_data: Callable[..., Path], capsys: pytest.CaptureFixture[str], run: Run
) -> None:
    data = make_data()
    assert run("evaluate", data / "masks", data, "--binary") == 2
    assert "leave out --binary" in capsys.readouterr().err


def test_strata_by_a_column_of_the_prepared_table(folders: Path, capsys: pytest.CaptureFixture[str], run: Run) -> None:
    rows = [f"truth/{name}.png,truth/{name}.png,{scanner}" for name, scanner in (("a", "Vendor X"), ("b", "Y"))]
    (folders / "pairs.csv").write_text("image,mask,Scanner\n" + "\n".join(rows), encoding="utf-8")
    assert run("prepare", folders / "pairs.csv", "-o", folders / "data") == 0
    arguments = ("evaluate", folders / "predictions", folders / "data", "--split", "all", "--metrics", "dice")
    assert run(*arguments, "--by", "scanner", "-o", folders / "report") == 0
    means = {name: lines[0]["mean"] for name, lines in report(folders)["strata"].items()}
    assert means == {"Vendor X": 1.0, "Y": 0.5}
    assert "scanner = Vendor X (1 case):" in capsys.readouterr().out
    assert run(*arguments, "--by", "vendor") == 3
    assert "known columns: group, scanner, split" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("options", [(), ("--binary",), ("--threshold", "127"), ("--classes", "0=background,255=x")])
def test_an_ignore_label_in_truths_compressed_with_loss_is_refused(
    folders: Path, evaluate: Run, capsys: pytest.CaptureFixture[str], suffix: str, options: tuple[str, ...]
) -> None:
    """Around the pixels of value 128, compression leaves values near it, which would be scored."""
    Image.fromarray(square() * 255 + np.tri(*square().shape, -6, dtype=np.uint8) * 128).save(
        folders / "truth" / f"a{suffix}", quality=60
    )
    (folders / "truth" / "a.png").unlink()
    assert evaluate("--ignore-label", "128", *options) == 3
    message = capsys.readouterr().err
    assert "the truth: 1 mask (JPEG or WebP) was compressed with loss" in message
    assert f"ignore label 128 are not known: {folders / 'truth' / f'a{suffix}'}; give the original masks" in message
    assert not (folders / "report").exists()


@pytest.mark.parametrize(("background", "polyp", "ignored"), [(1, 2, 0), (0, 1, 9), (300, 2, 0), (-1, 2, 0)])
def test_ignored_pixels_become_the_background_of_the_table(
    folders: Path, evaluate: Run, background: int, polyp: int, ignored: int
) -> None:
    """4 pixels of 4 are found and 1 more; 4 that are predicted where nothing is known do not count: 2 * 4 / (4 + 5)."""
    for path in folders.glob("*/*.png"):
        path.unlink()
    truth = np.full((4, 4), ignored, dtype=np.int16)
    truth[0], truth[1] = polyp, background
    np.save(folders / "truth" / "a.npy", truth)
    predicted = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]], dtype=np.uint8)
    np.save(folders / "predictions" / "a.npy", predicted)
    table = f"{background}=background,{polyp}=polyp"
    assert evaluate("--metrics", "dice", "--classes", table, "--ignore-label", str(ignored)) == 0
    (line,) = [line for line in report(folders)["summary"] if line["target"] == "polyp"]
    assert line["mean"] == pytest.approx(8 / 9)
