"""`guidino probe`: reports, their figures, and what is refused in one line."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from feature_folders import draw_items, draw_vectors, without_labels, write_features

from guidino_cli.commands import probe, probe_report
from guidino_cli.data.labelled.items import LabelledItem

Guidino = Callable[..., Any]


@pytest.fixture
def features(tmp_path: Path) -> Path:
    items = draw_items(tmp_path / "f", 90)
    return write_features(tmp_path / "f", items, draw_vectors(items), ["normal", "ill"])


def _report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def _macro(row: dict[str, Any], metric: str) -> dict[str, Any]:
    return next(item for item in row["scores"] if item["target"] == "macro" and item["metric"] == metric)


def test_linear_has_a_row_for_each_kind_of_features_and_solver(
    guidino: Guidino, features: Path, tmp_path: Path
) -> None:
    done = guidino("probe", "linear", features, "-o", tmp_path / "r", "--solver", "exact,paper")
    assert done.code == 0, done.stderr
    content = _report(tmp_path / "r")
    assert [(row["kind"], row["solver"]) for row in content["rows"]] == [
        (kind, solver) for kind in ("backbone", "random", "pixels") for solver in ("exact", "paper")
    ]
    assert [row["ending"].split(":")[0] for row in content["rows"]][:2] == ["converged", "not converged"]
    assert [item["minus"] for item in content["differences"]] == ["random network, exact", "raw pixels, exact"]
    assert {path.name for path in (tmp_path / "r").iterdir()} == {
        "report.html", "report.json", "summary.csv", "predictions.csv",
    }  # fmt: skip
    page = (tmp_path / "r" / "report.html").read_text()
    assert page.count("<img") >= 3
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_figures_are_those_of_scikit_learn_on_the_written_scores(
    guidino: Guidino, features: Path, tmp_path: Path
) -> None:
    from sklearn import metrics

    guidino("probe", "linear", features, "-o", tmp_path / "r", "--solver", "exact")
    with (tmp_path / "r" / "predictions.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if line["features"] == "random network"]
    truth = [int(line["true.ill"]) for line in lines]
    scores, called = ([float(line[f"{name}.ill"]) for line in lines] for name in ("score", "called"))
    row = _report(tmp_path / "r")["rows"][1]
    assert _macro(row, "auc")["mean"] == pytest.approx(metrics.roc_auc_score(truth, scores))
    assert _macro(row, "ap")["mean"] == pytest.approx(metrics.average_precision_score(truth, scores))
    assert _macro(row, "balanced_accuracy")["mean"] == pytest.approx(metrics.balanced_accuracy_score(truth, called))
    assert _macro(row, "accuracy")["mean"] == pytest.approx(metrics.accuracy_score(truth, called))
    assert _macro(row, "f1")["mean"] == pytest.approx(metrics.f1_score(truth, called))


def test_a_gate_that_fails_ends_with_8_after_writing(guidino: Guidino, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "f", 90)
    write_features(tmp_path / "f", items, draw_vectors(items, signal=0.4), ["normal", "ill"])
    done = guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r", "--solver", "exact", "--min-auc", 1.0)
    value = _macro(_report(tmp_path / "r")["rows"][0], "auc")["mean"]
    assert value < 1
    assert (done.code, f"{value:.4f} FAIL" in done.stderr) == (8, True)


def test_a_class_without_positives_in_a_fold_is_counted_and_no_one_half(guidino: Guidino, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "f", 40, split=False)
    labels = np.random.default_rng(0).integers(0, 2, (40, 2))
    # The second label has positives in fold 0 alone.
    labels[:, 1] = [number % 4 == 0 and number < 20 for number in range(40)]
    items = [
        replace(item, labels=tuple(row.tolist()), fold=number % 4) for number, (item, row) in
        enumerate(zip(items, labels, strict=True))
    ]  # fmt: skip
    vectors = {"backbone": labels @ np.ones((2, 6)) + np.random.default_rng(1).normal(size=(40, 6))}
    write_features(tmp_path / "f", items, vectors, ["A", "B"], multilabel=True)
    done = guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r", "--solver", "exact")
    assert done.code == 0, done.stderr
    assert "B: no positive or no negative in fold 1, fold 2, fold 3" in done.stderr
    assert "B: only 5 positives tested, on which its AUC rests" in done.stderr
    row = _report(tmp_path / "r")["rows"][0]
    own = next(item for item in row["scores"] if (item["target"], item["metric"]) == ("B", "auc"))
    # One fold only: no spread over runs. Its training part has no positive, so all its scores are alike.
    assert (own["deviation"], own["mean"]) == (None, 0.5)
    assert _macro(row, "auc")["total"] == 2


def test_unknown_labels_change_nothing(guidino: Guidino, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "a", 60)
    vectors = draw_vectors(items)
    write_features(tmp_path / "a", items, vectors, ["x", "y"])
    more = [*items, *without_labels(items, 20)]
    doubled = {kind: np.concatenate([rows, 9 * rows[:20]]) for kind, rows in vectors.items()}
    write_features(tmp_path / "b", more, doubled, ["x", "y"])
    found = []
    for name in "ab":
        done = guidino("probe", "linear", tmp_path / name, "-o", tmp_path / f"r{name}", "--solver", "exact")
        found.append([_macro(row, "auc") for row in _report(tmp_path / f"r{name}")["rows"]])
    assert "20 samples without a known label left out" in done.stderr
    assert found[0] == found[1]


def test_neighbours_name_the_k_that_validation_chose(guidino: Guidino, features: Path, tmp_path: Path) -> None:
    done = guidino("probe", "knn", features, "-o", tmp_path / "r", "--k", "1,5")
    assert done.code == 0
    content = _report(tmp_path / "r")
    assert {row["solver"] for row in content["rows"]} == {"k 1", "k 5"}
    assert content["headline"] in {"guidino-tiny, k 1", "guidino-tiny, k 5"}


def test_each_kind_of_features_is_compared_with_the_k_that_its_own_validation_chose(
    guidino: Guidino, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    items = [
        replace(item, split=("train", "val", "test")[number % 3])
        for number, item in enumerate(draw_items(tmp_path / "f", 180))
    ]
    labels = np.array([item.labels[0] for item in items])
    # Narrow sectors of both classes in turn, all at nearly the same angle: the nearest tells, many tell nothing.
    angles = (2 * generator.integers(6, size=180) + labels) * np.pi / 6 + generator.normal(size=180, scale=0.05)
    backbone = np.stack([np.full(180, 8.0), np.cos(angles), np.sin(angles)], axis=1)
    # Overlapping clouds: many neighbours tell more than one.
    random = generator.normal(size=(180, 12)) + 0.8 * labels[:, None] * (np.arange(12) < 3)
    write_features(tmp_path / "f", items, {"backbone": backbone, "random": random}, ["normal", "ill"])
    done = guidino("probe", "knn", tmp_path / "f", "-o", tmp_path / "r", "--k", "1,20")
    assert done.code == 0, done.stderr
    content = _report(tmp_path / "r")
    assert [row["solver"] for row in content["rows"] if row["compared"]] == ["k 1", "k 20"]
    own, other = (
        next(row for row in content["rows"] if row["compared"] and row["kind"] == kind)
        for kind in ("backbone", "random")
    )
    difference = content["differences"][0]
    assert (difference["of"], difference["minus"]) == ("guidino-tiny, k 1", "random network, k 20")
    assert difference["mean"] == pytest.approx(_macro(own, "auc")["mean"] - _macro(other, "auc")["mean"])
    assert "best on validation: k 1 of guidino-tiny, k 20 of random network;" in " ".join(done.stdout.split())
    assert "validation" not in done.stderr


@pytest.mark.parametrize(
    ("words", "start"), [((), "5 folds, the default of data without a split: "), (("--folds", 4), "--folds 4: ")]
)
def test_more_folds_than_patients_are_refused_in_the_words_that_were_typed(
    guidino: Guidino, tmp_path: Path, words: tuple[object, ...], start: str
) -> None:
    items = [
        replace(item, group=f"patient {number % 3}")
        for number, item in enumerate(draw_items(tmp_path / "f", 30, split=False))
    ]
    write_features(tmp_path / "f", items, draw_vectors(items), ["normal", "ill"])
    done = guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r", *words)
    expected = f"guidino: {start}there are 3 patients to share out; give --folds 3 or less"
    assert (done.code, done.stderr.strip()) == (2, expected)


def test_a_test_part_alone_leaves_nothing_to_learn_from(guidino: Guidino, tmp_path: Path) -> None:
    items = [replace(item, split="test") for item in draw_items(tmp_path / "f", 30)]
    write_features(tmp_path / "f", items, draw_vectors(items), ["normal", "ill"])
    done = guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r")
    assert (done.code, done.stderr.strip()) == (
        3, "guidino: all 30 samples are in the test part, so there is nothing to learn from; add a train part to DATA"
    )  # fmt: skip


def test_a_folder_that_is_given_twice_is_refused(
    guidino: Guidino, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = guidino("probe", "linear", features, features, "-o", tmp_path / "r", "--solver", "exact")
    assert (done.code, done.stderr.strip()) == (
        2, f"guidino: {features}: is given twice; give each folder of features once"
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    other = guidino("probe", "knn", features, features.name, "-o", tmp_path / "r")
    assert (other.code, f"f: is given twice (as {features})" in other.stderr) == (2, True)


def test_folders_of_one_backbone_and_the_same_settings_have_rows_of_different_names(
    guidino: Guidino, features: Path, tmp_path: Path
) -> None:
    # As of one architecture with the weights of two authors.
    items = draw_items(tmp_path / "f", 90)
    write_features(tmp_path / "g", items, draw_vectors(items, seed=5), ["normal", "ill"])
    done = guidino("probe", "linear", features, tmp_path / "g", "-o", tmp_path / "r", "--solver", "exact")
    assert done.code == 0, done.stderr
    names = [row["features"] for row in _report(tmp_path / "r")["rows"]]
    assert len(set(names)) == len(names) == 5
    assert names[0].endswith(f", {features}")


def test_a_volume_is_one_vector_of_the_mean_or_maximum_of_its_slices(guidino: Guidino, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "f", 60)
    labels = np.array([item.labels[0] for item in items])
    # Slices of the second class differ by one large value, which the mean of nine hides among noise.
    slices = np.random.default_rng(0).normal(size=(60, 9, 5))
    slices[labels == 1, 4] += 6
    write_features(tmp_path / "f", items, {"backbone": slices.reshape(-1, 5)}, ["x", "y"], counts=[9] * 60)
    found = {}
    for pool in ("mean", "max"):
        out = tmp_path / pool
        guidino("probe", "linear", tmp_path / "f", "-o", out, "--solver", "exact", "--pool", pool)
        found[pool] = _macro(_report(out)["rows"][0], "auc")["mean"]
    assert found["max"] > 0.99


def _bags(folder: Path, count: int = 40) -> tuple[list[LabelledItem], np.ndarray, list[bool]]:
    """Bags of six tiles; one tile of a positive bag lies far from the others."""
    generator = np.random.default_rng(0)
    items, vectors, positive = [], [], []
    for number in range(count):
        label, hit = number % 2, int(generator.integers(6))
        for place, item in enumerate(draw_items(folder / f"bag{number}", 6, split=False)):
            bag = f"bag{number}"
            part = ("train", "val", "test")[number // 2 % 3]
            items.append(replace(item, id=f"{bag}/{item.id}", labels=(label,), bag=bag, group=bag, split=part))
            is_positive = bool(label) and place == hit
            vectors.append(generator.normal(size=8) + 4 * is_positive)
            positive.append(is_positive)
    return items, np.array(vectors), positive


def test_attention_is_written_drawn_and_falls_on_the_tile_that_matters(guidino: Guidino, tmp_path: Path) -> None:
    items, vectors, positive = _bags(tmp_path / "f", 60)
    write_features(tmp_path / "f", items, {"backbone": vectors}, ["benign", "tumour"])
    done = guidino("probe", "abmil", tmp_path / "f", "-o", tmp_path / "r", "--epochs", 60, "--seeds", 2, "--sheets", 2)
    assert done.code == 0, done.stderr
    with (tmp_path / "r" / "attention.csv").open() as file:
        rows = list(csv.DictReader(file))
    totals: dict[str, float] = {}
    for row in rows:
        totals[row["bag"]] = totals.get(row["bag"], 0.0) + float(row["attention"])
    assert len(totals) == 20
    assert all(total == pytest.approx(1, abs=1e-4) for total in totals.values())
    truths = dict(zip((item.id for item in items), positive, strict=True))
    labels = {item.bag: item.labels[0] for item in items}
    firsts = [truths[row["instance"]] for row in rows if row["rank"] == "1" and labels[row["bag"]]]
    assert np.mean(firsts) > 0.8
    assert len(list((tmp_path / "r" / "attention").glob("*.png"))) == 2
    solvers = [row["solver"] for row in _report(tmp_path / "r")["rows"]]
    assert solvers == ["abmil", "mean, exact"]


def test_a_bag_of_one_tile_is_drawn_under_the_name_of_its_file(
    guidino: Guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []

    def draw(tiles: object, weights: object, names: list[str], **more: Any) -> Any:
        drawn.append((names, more.get("profile")))
        return plot_attention(tiles, weights, names, **more)  # type: ignore[arg-type]

    plot_attention = probe_report.plot_attention
    monkeypatch.setattr(probe_report, "plot_attention", draw)
    items, vectors, _ = _bags(tmp_path / "f", 24)
    kept = [place for place, item in enumerate(items) if place % 6 == 0 or item.split != "test"]
    items = [items[place] for place in kept]
    write_features(tmp_path / "f", items, {"backbone": vectors[kept]}, ["benign", "tumour"])
    done = guidino("probe", "abmil", tmp_path / "f", "-o", tmp_path / "r", "--epochs", 1, "--seeds", 1, "--sheets", 3)
    assert done.code == 0, done.stderr
    assert len(drawn) == 3
    tested = {item.path.name for item in items if item.split == "test"}
    assert all(names[0] in tested and profile is None for names, profile in drawn)


def test_attention_over_slices_names_their_place_in_the_volume_and_takes_unknown_labels(
    guidino: Guidino, tmp_path: Path
) -> None:
    generator = np.random.default_rng(0)
    items = []
    for number, item in enumerate(draw_items(tmp_path / "f", 48)):
        labels = (number % 2, -1 if number % 5 == 0 else number // 2 % 2)
        items.append(replace(item, labels=labels, split=("train", "val", "test")[number // 4 % 3]))
    slices = generator.normal(size=(48, 6, 8))
    # The third slice tells the first label.
    slices[np.array([item.labels[0] for item in items]) == 1, 2] += 4
    write_features(
        tmp_path / "f", items, {"backbone": slices.reshape(-1, 8)}, ["A", "B"], counts=[6] * 48, multilabel=True
    )
    about = json.loads((tmp_path / "f" / "features.json").read_text())
    about["settings"]["every"] = 4
    (tmp_path / "f" / "features.json").write_text(json.dumps(about))
    words = ("-o", tmp_path / "r", "--epochs", 40, "--seeds", 1, "--sheets", 0)
    done = guidino("probe", "abmil", tmp_path / "f", *words)
    assert done.code == 0, done.stderr
    with (tmp_path / "r" / "attention.csv").open() as file:
        rows = list(csv.DictReader(file))
    # Of each four slices the one in the middle.
    assert [row["slice"] for row in rows[:6]] == ["2", "6", "10", "14", "18", "22"]
    tested = {item.id: item.labels for item in items if item.split == "test"}
    firsts = [row["slice"] for row in rows if row["rank"] == "1" and tested[row["bag"]][0] == 1]
    assert firsts.count("10") > 0.7 * len(firsts)
    with (tmp_path / "r" / "predictions.csv").open() as file:
        truths = {line["sample"]: line["true.B"] for line in csv.DictReader(file)}
    assert {name for name, text in truths.items() if text == ""} == {name for name, own in tested.items() if own[1] < 0}


def test_bags_of_one_are_no_task_for_attention(guidino: Guidino, features: Path, tmp_path: Path) -> None:
    done = guidino("probe", "abmil", features, "-o", tmp_path / "r")
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert "every bag has one instance" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("knn", "--k", "500"), 2, "--k 500: the training part has 60 samples; give 60 or less"),
        (("knn", "--k", "0"), 2, "--k 0: expected whole numbers above 0"),
        (("linear", "--solver", "exat"), 2, "unknown solver 'exat'; did you mean 'exact'?"),
        (("linear", "--pool", "median"), 2, "--pool: unknown value 'median'"),
        (("linear", "--threshold", "0.7"), 2, "--threshold: unknown value '0.7'"),
        (("linear", "--min-auc", "85"), 2, "--min-auc 85: expected a share from 0 to 1"),
        (("linear", "--folds", "91"), 2, "--folds 91: there are 60 patients to share out"),
    ],
)
def test_bad_options_are_one_line(
    words: tuple[str, ...], code: int, text: str, guidino: Guidino, features: Path, tmp_path: Path
) -> None:
    done = guidino("probe", words[0], features, "-o", tmp_path / "r", *words[1:])
    assert (done.code, done.stderr.count("\n")) == (code, 1)
    assert text in done.stderr
    assert not (tmp_path / "r").exists()


def test_a_training_part_of_one_class_is_refused(guidino: Guidino, tmp_path: Path) -> None:
    items = [
        replace(item, labels=(int(item.split == "test" and number % 2),))
        for number, item in enumerate(draw_items(tmp_path / "f", 30))
    ]
    write_features(tmp_path / "f", items, draw_vectors(items), ["benign", "tumour"])
    done = guidino("probe", "linear", tmp_path / "f", "-o", tmp_path / "r")
    assert (done.code, done.stderr.count("\n")) == (3, 1)
    assert "guidino: the training part has one class only (benign); a probe needs two" in done.stderr


def test_folders_without_features_and_unfinished_ones_are_refused(
    guidino: Guidino, features: Path, tmp_path: Path
) -> None:
    done = guidino("probe", "linear", tmp_path / "gone", "-o", tmp_path / "r")
    assert (done.code, "make it with `guidino features DATA" in done.stderr) == (3, True)
    about = json.loads((features / "features.json").read_text())
    (features / "features.json").write_text(json.dumps({**about, "complete": False}))
    done = guidino("probe", "linear", features, "-o", tmp_path / "r")
    assert (done.code, "is not complete; run the same `guidino features` again" in done.stderr) == (3, True)


def test_features_of_other_samples_cannot_be_compared(guidino: Guidino, features: Path, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "g", 60, seed=5)
    other = write_features(tmp_path / "g", items, draw_vectors(items), ["normal", "ill"], name="embedded")
    done = guidino("probe", "linear", features, other, "-o", tmp_path / "r")
    assert (done.code, done.stderr.count("\n")) == (3, 1)
    assert "has other samples or labels" in done.stderr


def test_two_backbones_stand_in_one_table(guidino: Guidino, features: Path, tmp_path: Path) -> None:
    items = draw_items(tmp_path / "g", 90)
    vectors = draw_vectors(items, signal=0.5, seed=3)
    other = write_features(tmp_path / "g", items, vectors, ["normal", "ill"], name="embedded")
    done = guidino("probe", "linear", features, other, "-o", tmp_path / "r", "--solver", "exact")
    assert done.code == 0, done.stderr
    assert [row["features"] for row in _report(tmp_path / "r")["rows"]] == [
        "guidino-tiny",
        "random network (as guidino-tiny)",
        "raw pixels",
        "embedded",
        "random network (as embedded)",
    ]


def test_without_scikit_learn_the_command_to_install_it_is_named(
    guidino: Guidino, features: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "find_spec", lambda name: None)
    done = guidino("probe", "linear", features, "-o", tmp_path / "r")
    assert (done.code, done.stderr.count("\n")) == (5, 1)
    assert "pip install 'guidino[probe]'" in done.stderr


@pytest.mark.parametrize(
    "words",
    ["probe linear gone -o out", "probe knn gone -o out --k x", "features gone -o out", "features . -o out --px 1"],
)
def test_bad_arguments_are_answered_without_torch(words: str, tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["torch"] = None
sys.argv = {["guidino", *words.split()]}
from guidino_cli.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode in {2, 3}
    assert done.stderr.count("\n") == 1
    assert "a bug" not in done.stderr


def test_json_is_all_that_is_printed(guidino: Guidino, features: Path, tmp_path: Path) -> None:
    done = guidino("probe", "linear", features, "-o", tmp_path / "r", "--solver", "exact", "--json")
    assert json.loads(done.stdout)["probe"] == "linear"
