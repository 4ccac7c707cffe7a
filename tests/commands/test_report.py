"""`guidino report`: what is on the page, what it says is missing, and folders that it refuses."""

import json
import re
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands.report_inputs import unique_names
from guidino_cli.config import dump_config, load_config, override

RUNS = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
Guidino = Callable[..., Any]


def text_of(page: Path) -> str:
    """What a reader sees, without markup; spaces are joined."""
    content = page.read_text(encoding="utf-8")
    content = re.sub(r"<(style|script)>.*?</\1>", " ", content, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", content)).split())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of two runs, true masks, and evaluations of two sets of masks: "good" misses a row, "bad" a half."""
    root = tmp_path_factory.mktemp("report")
    for name in ("guided", "plain"):
        shutil.copytree(RUNS / "guided", root / name)
    plain = override(load_config(RUNS / "guided" / "config.yaml"), ["model.guide=null", "train.loss.guide=0"])
    (root / "plain" / "config.yaml").write_text(dump_config(plain))
    for number in range(8):
        truth = np.zeros((32, 32), np.uint8)
        truth[8:24, 4 : 12 + number] = 1
        good, bad = truth.copy(), truth.copy()
        good[8], bad[8:16] = 0, 0
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3)).astype(np.uint8)
        for folder, mask in (("truth", truth), ("good", good), ("bad", bad), ("images", pixels)):
            (root / folder).mkdir(exist_ok=True)
            Image.fromarray(mask).save(root / folder / f"c{number}&lt;.png")
    return {"root": root, **{name: root / name for name in ("guided", "plain", "truth", "good", "bad", "images")}}


@pytest.fixture
def evaluate(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """Evaluate a set of masks: `evaluate("good")` is the folder of the report."""

    def call(name: str, *more: str, truth: str = "truth") -> Path:
        out = tmp_path / f"scores-{name}"
        outcome = guidino(
            "evaluate", folders[name], folders[truth], "-o", out, "--images", folders["images"], "--overwrite", *more
        )
        assert outcome.code == 0, outcome.stderr
        return out

    return call


def test_a_run_alone_has_settings_curves_environment_and_what_is_missing(
    guidino: Guidino, folders: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    outcome = guidino("report", folders["guided"], "-o", out)
    assert (outcome.code, outcome.stdout.count("\n")) == (0, 1)
    text = text_of(out)
    assert "not on this machine" in text
    facts = json.loads((folders["guided"] / "run.json").read_text())
    assert facts["packages"]["torch"] in text
    assert facts["data"]["sha256"] in text
    assert "model.guide.name" in text or "model.guide.at" in text
    assert "no scores: predict and evaluate the test part" in text
    assert "no guide quality of guided" in text
    assert outcome.stderr.count("guidino: warning: no ") == 2
    assert out.read_text().count("data:image/svg+xml") == 1


def test_the_page_loads_nothing_and_shows_names_as_text(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    assert guidino("report", folders["plain"], evaluate("bad"), "-o", out).code == 0
    content = out.read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|href)="(?!data:)', content)
    assert "@import" not in content
    assert "url(" not in content
    # Cases may be called like markup.
    assert "c0&amp;lt;" in content
    assert "c0&lt;" not in content
    assert "@media print" in content


def test_scores_of_two_evaluations_stand_side_by_side_with_the_tests_of_compare(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path], tmp_path: Path
) -> None:
    out = tmp_path / "report.html"
    bad, good = evaluate("bad"), evaluate("good")
    assert guidino("report", folders["plain"], folders["guided"], bad, good, "-o", out).code == 0
    text = text_of(out)
    # 15 of 16 rows, and 8 of 16.
    dice = {"good": 2 * 15 / 31, "bad": 2 * 8 / 24}
    assert f"Dice {dice['bad']:.4f}" in text
    assert f"{dice['good']:.4f} ({dice['good']:.4f} .. {dice['good']:.4f})" in text
    compared = tmp_path / "comparison"
    assert guidino("compare", folders["bad"], folders["good"], "--truth", folders["truth"], "-o", compared).code == 0
    contests = json.loads((compared / "comparison.json").read_text())["contests"]
    (row,) = [item for item in contests if item["metric"] == "dice"]
    assert f"Dice 8/8 {row['mean']:+.3f}" in text
    assert f"8/0/0 +1.00 {row['p_value']:.3f} {row['p_holm']:.3f}" in text
    assert "A p-value is not the probability" in text


def test_the_worst_cases_are_the_pictures_of_the_evaluation(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path], tmp_path: Path
) -> None:
    scores, out = evaluate("bad"), tmp_path / "report.html"
    assert guidino("report", folders["plain"], scores, "-o", out).code == 0
    pictures = re.findall(r'<img src="(data:image/png[^"]+)"', out.read_text())
    on_page = re.findall(r'<img src="(data:image/png[^"]+)"', (scores / "report.html").read_text())
    assert len(pictures) == 3
    assert pictures == on_page[:3]
    (scores / "report.html").unlink()
    assert guidino("report", folders["plain"], scores, "-o", out, "--overwrite").code == 0
    assert "No picture: the evaluation has no report.html" in text_of(out)


def test_masks_of_other_cases_or_rules_are_not_compared_and_the_page_says_why(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path], tmp_path: Path
) -> None:
    good, strict = evaluate("good"), evaluate("bad", "--policy", "nnunet")
    out = tmp_path / "report.html"
    outcome = guidino("report", folders["plain"], good, strict, "-o", out)
    assert outcome.code == 0
    assert "scores-good and scores-bad are not compared: scored with another policy" in text_of(out)
    report = json.loads((strict / "report.json").read_text())
    report["cases"].pop()
    (strict / "report.json").write_text(json.dumps(report))
    assert guidino("report", folders["plain"], good, strict, "-o", out, "--overwrite").code == 0
    assert "other cases (0 only in the second, 1 only in the first)" in text_of(out)


def test_other_truths_and_units_are_said(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path], tmp_path: Path
) -> None:
    good, bad = evaluate("good"), evaluate("bad")
    out = tmp_path / "report.html"
    content = json.loads((bad / "report.json").read_text())
    (bad / "report.json").write_text(json.dumps(content | {"truth": "second-rater"}))
    assert guidino("report", folders["plain"], good, bad, "-o", out).code == 0
    assert f"{folders['truth']}; of scores-bad: second-rater. The comparison holds only if" in text_of(out)
    (bad / "report.json").write_text(json.dumps(content | {"unit": "mm"}))
    assert guidino("report", folders["plain"], good, bad, "-o", out, "--overwrite").code == 0
    text = text_of(out)
    assert "distances have different units: px in scores-good, mm in scores-bad" in text
    assert "not compared: distances in other units (px; mm)" in text
    assert "HD95 px or mm" in text


def test_the_page_of_an_evaluation_is_not_replaced(
    guidino: Guidino, folders: dict[str, Path], evaluate: Callable[..., Path]
) -> None:
    scores = evaluate("good")
    before = (scores / "report.html").read_bytes()
    outcome = guidino("report", folders["plain"], scores, "-o", scores / "report.html", "--overwrite")
    assert outcome.code == 2
    assert "is the page of an evaluation; choose another name" in outcome.stderr
    assert (scores / "report.html").read_bytes() == before


def test_masks_are_named_by_the_run_that_made_them(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> None:
    masks, scores, out = tmp_path / "masks", tmp_path / "scores", tmp_path / "report.html"
    run = tmp_path / "run"
    shutil.copytree(folders["guided"], run)
    assert guidino("predict", run, folders["images"], "-o", masks).code == 0
    assert guidino("evaluate", masks, folders["truth"], "-o", scores).code in {0, 6}
    assert guidino("report", run, scores, "-o", out).code == 0
    assert re.search(r"made by run \(weights [0-9a-f]{12}\)", text_of(out))
    other = tmp_path / "other"
    shutil.copytree(run, other)
    for folder in (run, other):
        with (folder / "best" / "model.safetensors").open("ab") as file:
            file.write(b" ")
    assert guidino("report", other, scores, "-o", out, "--overwrite").code == 0
    assert "which is none of the runs of this page" in text_of(out)
    assert guidino("report", run, scores, "-o", out, "--overwrite").code == 0
    assert "WITH OTHER WEIGHTS" in text_of(out)
    (run / "best" / "model.safetensors").unlink()
    assert guidino("report", run, scores, "-o", out, "--overwrite").code == 0
    assert "made by run, of which the weights are not there" in text_of(out)


def test_missing_masks_are_a_warning_on_the_page(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> None:
    few, scores, out = tmp_path / "few", tmp_path / "scores", tmp_path / "report.html"
    shutil.copytree(folders["good"], few)
    (few / "c3&lt;.png").unlink()
    assert guidino("evaluate", few, folders["truth"], "-o", scores).code == 6
    assert guidino("report", folders["plain"], scores, "-o", out).code == 0
    assert "Warning: scores: 1 case missing" in text_of(out)


def test_guides_are_scored_on_the_page(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> None:
    guides, out = tmp_path / "guides", tmp_path / "report.html"
    guides.mkdir()
    scores = {"n": 8, "mean": 0.912, "median": 0.95, "worst": 0.4, "pooled": 0.9}
    one = {"guide": "guide", "map": "polyp", "images": 8, "auroc": scores, "low": 0, "high": 1}
    one["iou"] = {"n": 8, "mean": {"0.3": 0.61, "0.5": 0.5, "0.7": None}}
    (guides / "guides.json").write_text(json.dumps({"run": str(folders["guided"]), "maps": [one]}))
    Image.new("RGB", (2000, 100), "red").save(guides / "contact_sheet.png")
    outcome = guidino("report", folders["guided"], guides, "-o", out)
    assert outcome.code == 0
    assert "guide, polyp 8 0.912 0.950 0.400 0.900 0.500 0.610 at 0.3" in text_of(out)
    assert "no guide quality" not in outcome.stderr
    assert "data:image/webp" in out.read_text()


def test_settings_that_differ_are_marked(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert guidino("report", folders["plain"], folders["guided"], "-o", out).code == 0
    content = out.read_text()
    assert re.search(r'<tr class="differs"><td>model\.guide\.\w+</td><td>-</td>', content)
    assert "Validation Dice of all runs" in content


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("EMPTY -o r.html", 3, "expected a run (config.yaml, run.json), an evaluation"),
        ("no-such -o r.html", 3, "no-such: no such folder"),
        ("RUN -o r.pdf", 2, "-o r.pdf: expected the name of an HTML page"),
        ("RUN RUN -o r.html", 2, "named twice"),
        ("RUN", 2, "-o/--out is missing"),
        ("-o r.html", 2, "is missing"),
        ("RUN -o old.html", 2, "-o old.html: exists; add --overwrite"),
        ("DAMAGED -o r.html", 3, "run.json"),
        ("BROKEN RUN -o r.html", 3, "report.json: damaged"),
        ("PROBE RUN -o r.html", 3, "report.json: damaged"),
        ("OTHER RUN -o r.html", 3, "has wer, which this version does not measure"),
        ("RUN -o no/such/where/r.html", 0, ""),
    ],
)
def test_what_cannot_be_reported_is_one_line(
    guidino: Guidino,
    folders: dict[str, Path],
    evaluate: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("old.html").touch()
    Path("EMPTY").mkdir()
    shutil.copytree(folders["plain"], "RUN")
    shutil.copytree(folders["plain"], "DAMAGED")
    (Path("DAMAGED") / "run.json").write_text("{")
    for name, content in (("BROKEN", {"schema": 1, "cases": 3}), ("PROBE", {"schema": 1, "rows": []})):
        Path(name).mkdir()
        (Path(name) / "report.json").write_text(json.dumps(content))
    if "OTHER" in words:
        scores = evaluate("good")
        scores.rename("OTHER")
        text = Path("OTHER/report.json").read_text()
        Path("OTHER/report.json").write_text(text.replace('"metric": "dice"', '"metric": "wer"'))
    outcome = guidino("report", *words.split())
    assert outcome.code == code, outcome.stderr
    assert message in outcome.stderr
    if code:
        assert (outcome.stdout, outcome.stderr.count("\n")) == ("", 1)


def test_a_set_of_runs_stands_for_its_runs(guidino: Guidino, folders: dict[str, Path], tmp_path: Path) -> None:
    group = tmp_path / "set"
    for seed in (0, 1):
        shutil.copytree(folders["plain"], group / f"seed{seed}")
    (group / "runs.json").write_text("{}")
    out = tmp_path / "report.html"
    assert guidino("report", group, "-o", out).code == 0
    assert "Report: seed0, seed1" in text_of(out)


def test_names_are_as_short_as_they_can_be() -> None:
    assert unique_names([Path("/a/runs/x"), Path("/a/runs/y")]) == ["x", "y"]
    assert unique_names([Path("/a/1/x"), Path("/a/2/x")]) == ["1/x", "2/x"]
