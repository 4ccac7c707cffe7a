"""`guidino bench`: scores are those of the commands themselves; cells are resumed; a bad one harms no other."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands.bench import run as bench
from guidino_cli.commands.bench.cells import CellRecord

Guidino = Callable[..., Any]
Writer = Callable[..., Path]
Reader = Callable[[Path], dict[str, Any]]
PROBE = {"kind": "linear", "data": "chest.csv", "px": 32, "solver": "exact,paper"}
PAIRS = {"kind": "registration", "data": "pairs/pairs.csv", "grid": 4, "steps": 3, "px": 32, "figures": False}
DECODER = {
    "kind": "decoder", "data": "data", "preset": "kvasir-light2d", "metrics": "dice,iou",
    "set": {"data.image_size": 32, "train.epochs": 1, "train.batch_size": 2},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_figures")


def _run(guidino: Guidino, recipe: Path, out: Path, *words: object) -> Any:
    return guidino("bench", recipe, "-o", out, "--device", "cpu", *words)


def _macro(report: dict[str, Any], kind: str, solver: str) -> dict[str, Any]:
    row = next(row for row in report["rows"] if (row["kind"], row["solver"]) == (kind, solver))
    return next(item for item in row["scores"] if (item["target"], item["metric"]) == ("macro", "auc"))


@pytest.mark.usefixtures("chest")
def test_rows_of_a_probe_are_those_of_features_and_probe(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, small: dict[str, str], tmp_path: Path
) -> None:
    paper = {"source": "A paper, Table 1", "figures": {"DINOv3-S": {"auc": 0.7788}}}
    done = _run(guidino, write_recipe({"chest": {**PROBE, "paper": paper}}), tmp_path / "out")
    assert done.code == 0, done.stderr
    words = ("--backbone", "dinov3", "--weights", small["weights"], "--px", 32, "--device", "cpu")
    assert guidino("features", tmp_path / "chest.csv", "-o", tmp_path / "f", *words).code == 0
    assert guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r", "--solver", "exact,paper").code == 0
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    rows = read_bench(tmp_path / "out")["chest"]["rows"]
    assert [(row["role"], row["method"]) for row in rows] == [
        ("backbone", "exact"), ("backbone", "paper"), ("random", "exact"), ("random", "paper"), ("pixels", "exact"),
        ("pixels", "paper"), ("paper", ""),
    ]  # fmt: skip
    for row in rows[:-1]:
        expected = _macro(report, row["role"], row["method"])
        assert row["scores"]["auc"] == [expected["mean"], expected["low"], expected["high"]]
    minus = next(item for item in report["differences"] if item["minus"].startswith("random"))
    assert rows[0]["minus_random"] == [minus["mean"], minus["low"], minus["high"]]
    assert rows[1]["minus_random"][0] == pytest.approx(
        _macro(report, "backbone", "paper")["mean"] - _macro(report, "random", "paper")["mean"]
    )
    assert rows[-1]["scores"] == {"auc": [0.7788, None, None]}
    assert "(theirs)" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    page = (tmp_path / "out" / "bench.html").read_text()
    assert "A paper, Table 1" in page
    assert page.count("<circle") == 7


@pytest.mark.usefixtures("chest")
def test_a_second_call_computes_nothing(
    guidino: Guidino, write_recipe: Writer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe({"chest": PROBE, "near": {"kind": "knn", "data": "chest.csv", "px": 32, "k": "3,5"}})
    first = _run(guidino, recipe, tmp_path / "out")
    assert first.code == 0, first.stderr
    # Both tasks are about the same vectors.
    assert len(list((tmp_path / "out" / "features").iterdir())) == 1
    monkeypatch.setattr(bench, "_run_kind", lambda *_: pytest.fail("computed again"))
    second = _run(guidino, recipe, tmp_path / "out")
    assert (second.code, second.stdout) == (0, first.stdout)


@pytest.mark.usefixtures("chest")
def test_an_interrupted_call_is_gone_on_with_and_what_killed_it_comes_last(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = {name: {"kind": "knn", "data": "chest.csv", "px": 32, "k": number} for number, name in enumerate("abc", 1)}
    recipe, out = write_recipe(tasks), tmp_path / "out"
    original, begun = bench._run_kind, []

    def stop_in_b(cell: Any, options: Any) -> CellRecord:
        begun.append(cell.task.name)
        if cell.task.name == "b" and len(begun) == 2:
            raise KeyboardInterrupt
        return original(cell, options)

    monkeypatch.setattr(bench, "_run_kind", stop_in_b)
    stopped = _run(guidino, recipe, out)
    assert (stopped.code, begun) == (130, ["a", "b"])
    states = {name: task["rows"][0]["state"] for name, task in read_bench(out).items()}
    assert states == {"a": "done", "b": "missing", "c": "missing"}
    plan = _run(guidino, recipe, out, "--dry-run")
    assert "unfinished" in plan.stdout
    assert "3 cells, 2 to compute" in plan.stdout
    assert _run(guidino, recipe, out).code == 0
    assert begun[2:] == ["c", "b"]


@pytest.mark.usefixtures("chest")
def test_a_cell_that_fails_has_no_score_and_changes_no_other(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, tmp_path: Path
) -> None:
    gone = {"kind": "linear", "data": "gone.csv"}
    alone = _run(guidino, write_recipe({"chest": PROBE}), tmp_path / "a")
    both = _run(guidino, write_recipe({"gone": gone, "chest": PROBE}, name="b.yaml"), tmp_path / "b")
    assert (alone.code, both.code) == (0, 6)
    assert "gone.csv: no such file or folder" in both.stderr.splitlines()[-1]
    first, second = (read_bench(tmp_path / name)["chest"]["rows"] for name in "ab")
    assert [row["scores"] for row in first] == [row["scores"] for row in second]
    (row,) = read_bench(tmp_path / "b")["gone"]["rows"]
    assert (row["state"], row["scores"]) == ("failed", {})
    with (tmp_path / "b" / "bench.csv").open() as file:
        (line,) = [line for line in csv.DictReader(file) if line["task"] == "gone"]
    assert (line["value"], line["state"]) == ("", "failed")
    none = _run(guidino, write_recipe({"gone": gone}, name="c.yaml"), tmp_path / "c")
    assert (none.code, "none of 1 cell could be computed" in none.stderr) == (3, True)


@pytest.mark.usefixtures("chest")
def test_a_bug_in_a_cell_is_its_own(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from guidino_cli.commands.bench import probe_cells

    original = probe_cells.run_probe

    def fail_in_a(cell: Any, options: Any) -> CellRecord:
        if cell.task.name == "a":
            raise IndexError("list index out of range")
        return original(cell, options)

    monkeypatch.setattr(probe_cells, "run_probe", fail_in_a)
    done = _run(guidino, write_recipe({"a": PROBE, "b": PROBE}), tmp_path / "out")
    assert done.code == 6
    content = read_bench(tmp_path / "out")
    assert "IndexError: list index out of range (a bug" in content["a"]["rows"][0]["error"]
    assert content["b"]["rows"][0]["state"] == "done"


@pytest.mark.usefixtures("chest")
def test_a_folder_of_other_settings_of_another_recipe_or_of_others_is_refused(
    guidino: Guidino, write_recipe: Writer, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    near = {"kind": "knn", "data": "chest.csv", "px": 32, "k": 3}
    assert _run(guidino, write_recipe({"near": near}), out).code == 0
    other = _run(guidino, write_recipe({"near": {**near, "px": 48}}), out)
    assert (other.code, "near, small with px 32 and not 48" in other.stderr) == (2, True)
    foreign = _run(guidino, write_recipe({"else": near}), out)
    assert (foreign.code, "holds the tasks of another recipe (near)" in foreign.stderr) == (2, True)
    # A further task is no other recipe.
    assert _run(guidino, write_recipe({"near": near, "more": {**near, "k": 5}}), out).code == 0
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    mine = _run(guidino, write_recipe({"near": near}), tmp_path / "mine", "--overwrite")
    assert (mine.code, "guidino did not write" in mine.stderr) == (2, True)
    table = tmp_path / "chest.csv"
    table.write_text(table.read_text().replace("normal", "healthy"))
    changed = _run(guidino, write_recipe({"near": near}), out)
    assert (changed.code, "data that have changed since" in changed.stderr) == (2, True)
    assert _run(guidino, write_recipe({"near": near}), out, "--overwrite").code == 0


@pytest.mark.usefixtures("chest", "pairs")
@pytest.mark.parametrize(
    ("name", "task", "changed", "start"),
    [
        ("near", {"kind": "knn", "data": "chest.csv", "px": 32, "k": 3}, "chest/07.png", "1 file has changed ("),
        ("move", PAIRS, "pairs/1-moving.nii.gz", "files of 1 pair have changed (1) since move, MIND"),
        ("squares", DECODER, "source/images/case1.png", "1 file has changed ("),
    ],
)
def test_files_that_changed_under_their_names_are_refused(
    guidino: Guidino, write_recipe: Writer, make_data: Writer, tmp_path: Path,
    name: str, task: dict[str, Any], changed: str, start: str,
) -> None:  # fmt: skip
    if task["kind"] == "decoder":
        (make_data("source", train=6, val=2, test=2) / "cases.json").unlink()
        words = ("--classes", "background,a", "--split", "60/20/20")
        assert guidino("prepare", tmp_path / "source", "-o", tmp_path / "data", *words).code == 0
    recipe, out = write_recipe({name: {**task, "controls": False}}), tmp_path / "out"
    assert _run(guidino, recipe, out).code == 0
    same = _run(guidino, recipe, out, "--dry-run")
    assert (same.code, ", 0 to compute" in same.stdout) == (0, True)
    path = tmp_path / changed
    if path.suffix == ".png":
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    else:
        path.write_bytes(path.read_bytes() + b"more")
    again = _run(guidino, recipe, out)
    assert (again.code, again.stderr.count("\n")) == (2, 1)
    assert f"{tmp_path / task['data']}: {start}" in again.stderr
    assert "add --overwrite to begin anew" in again.stderr


@pytest.mark.usefixtures("pairs")
def test_registration_stands_beside_mind_and_a_random_network_pair_by_pair(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = _run(guidino, write_recipe({"move": PAIRS}), out)
    assert done.code == 0, done.stderr
    rows = {row["role"]: row for row in read_bench(out)["move"]["rows"]}
    assert list(rows) == ["backbone", "random", "mind", "initial"]
    found = {}
    for role, folder in (("backbone", "backbone-small"), ("random", "random-small"), ("mind", "mind")):
        with (out / "cells" / "move" / folder / "pairs" / "report.csv").open() as file:
            lines = list(csv.DictReader(file))
        found[role] = np.array([float(line["dice_after"]) for line in lines])
        assert rows[role]["scores"]["dice"][0] == pytest.approx(found[role].mean(), abs=1e-5)
    assert rows["initial"]["scores"]["dice"][0] == pytest.approx(
        np.mean([float(line["dice_before"]) for line in lines]), abs=1e-5
    )
    minus = rows["backbone"]["minus_random"]
    differences = found["backbone"] - found["random"]
    assert minus[0] == pytest.approx(differences.mean(), abs=1e-5)
    assert differences.min() - 1e-5 <= minus[1] <= minus[0] <= minus[2] <= differences.max() + 1e-5


def test_pairs_that_are_lost_are_marked_and_in_no_difference(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, pairs: Path, tmp_path: Path
) -> None:
    (pairs.parent / "1-moving.nii.gz").write_bytes(b"no volume")
    done = _run(guidino, write_recipe({"move": PAIRS}), tmp_path / "out")
    assert done.code == 0
    assert "1 lost, in no mean" in " ".join(done.stdout.split())
    row = read_bench(tmp_path / "out")["move"]["rows"][0]
    assert (row["tested"], row["lost"], row["minus_random"][0] is not None) == (2, 1, True)
    assert any("could not be registered" in note for note in read_bench(tmp_path / "out")["move"]["notes"])


@pytest.mark.parametrize("labelled", [0, 2])
def test_pairs_without_labels_have_no_dice_and_the_table_says_so(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, pairs: Path, tmp_path: Path, labelled: int
) -> None:
    lines = pairs.read_text().splitlines()
    blank = [",".join([*line.split(",")[:3], "", ""]) for line in lines[1 + labelled :]]
    pairs.write_text("\n".join([*lines[: 1 + labelled], *blank]) + "\n")
    recipe = write_recipe({"move": {**PAIRS, "controls": False}})
    done = _run(guidino, recipe, tmp_path / "out")
    said = " ".join(done.stdout.split())
    assert done.code == 0, done.stderr
    lost = {0: "3 pairs (0, 1, 2)", 2: "1 pair (2)"}[labelled]
    assert f"move, MIND, small: no Dice of {lost}: no labels; without, set metric: correlation" in said
    assert "move, no random network stands beside the others: the recipe has controls: false" in said
    assert f"move: registration, Dice; {f'{labelled} pairs' if labelled else 'nothing'} tested features" in said
    for row in read_bench(tmp_path / "out")["move"]["rows"]:
        assert (row["tested"], row["lost"], "dice" in row["scores"]) == (labelled, 3 - labelled, labelled > 0)
    # A file that is gone has not changed.
    (pairs.parent / "1-moving.nii.gz").unlink()
    assert _run(guidino, recipe, tmp_path / "out").code == 0


def test_a_decoder_is_trained_on_the_backbone_and_on_its_random_twin(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, make_data: Writer, tmp_path: Path
) -> None:
    make_data(train=4, val=2, test=3)
    out = tmp_path / "out"
    done = _run(guidino, write_recipe({"squares": DECODER}), out)
    assert done.code == 0, done.stderr
    rows = {row["role"]: row for row in read_bench(out)["squares"]["rows"]}
    assert list(rows) == ["backbone", "random"]
    for role, row in rows.items():
        report = json.loads((out / "cells" / "squares" / f"{role}-small" / "report" / "report.json").read_text())
        assert (
            row["scores"]["dice"][0] == report["summary"][0 if report["summary"][0]["metric"] == "dice" else 1]["mean"]
        )
        assert (row["tested"], row["sha256"] != "") == (3, True)
    assert rows["backbone"]["sha256"] != rows["random"]["sha256"]
    settings = (out / "cells" / "squares" / "random-small" / "run" / "config.yaml").read_text()
    assert str(out / "random-networks" / "small") in settings


@pytest.mark.usefixtures("chest")
def test_a_dry_run_lists_cells_and_writes_nothing(guidino: Guidino, write_recipe: Writer, tmp_path: Path) -> None:
    recipe = write_recipe({"chest": PROBE, "move": {**PAIRS, "data": "gone.csv"}})
    done = _run(guidino, recipe, tmp_path / "out", "--dry-run")
    assert done.code == 0
    assert "4 cells, 4 to compute" in done.stdout
    assert f"absent: {tmp_path / 'gone.csv'}" in " ".join(done.stdout.split())
    assert not (tmp_path / "out").exists()
    both = _run(guidino, recipe, tmp_path / "out", "--dry-run", "--json")
    assert (both.code, both.stdout, "leave out --json or --dry-run" in both.stderr) == (2, "", True)


@pytest.mark.usefixtures("chest")
def test_a_folder_of_other_work_with_a_recipe_is_not_removed(
    guidino: Guidino, write_recipe: Writer, tmp_path: Path
) -> None:
    recipe, other = write_recipe({"chest": PROBE}), tmp_path / "study"
    other.mkdir()
    (other / "recipe.yaml").write_text("tasks: {}")
    (other / "thesis.tex").touch()
    refused = _run(guidino, recipe, other, "--overwrite")
    assert (refused.code, "holds files that guidino did not write" in refused.stderr) == (2, True)
    assert sorted(path.name for path in other.iterdir()) == ["recipe.yaml", "thesis.tex"]


@pytest.mark.usefixtures("chest")
def test_only_chosen_tasks_are_computed(
    guidino: Guidino, write_recipe: Writer, read_bench: Reader, tmp_path: Path
) -> None:
    recipe = write_recipe({"chest": PROBE, "gone": {"kind": "linear", "data": "gone.csv"}})
    assert _run(guidino, recipe, tmp_path / "out", "--only", "chest").code == 0
    assert read_bench(tmp_path / "out")["gone"]["rows"][0]["state"] == "missing"
    wrong = _run(guidino, recipe, tmp_path / "out", "--only", "chset")
    assert (wrong.code, "did you mean 'chest'" in wrong.stderr) == (2, True)
