"""Recipes: every key is checked, and an error has its path."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from guidino_cli.commands.bench.cells import list_cells
from guidino_cli.commands.bench.recipe import read_recipe, recipe_names
from guidino_cli.commands.bench.task_checks import check_tasks
from guidino_cli.errors import ConfigError

Guidino = Callable[..., Any]
GOOD = "backbones: [guidino-tiny]\ntasks:\n  chest: {kind: linear, data: chest.csv}\n"


def _refusal(tmp_path: Path, text: str) -> str:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        check_tasks(read_recipe(str(path)))
    message = str(raised.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def _task(text: str) -> str:
    return f"backbones: [guidino-tiny]\ntasks:\n  chest: {{{text}}}\n"


def test_a_recipe_without_faults_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD)
    recipe = read_recipe(str(path))
    check_tasks(recipe)
    (task,) = recipe.tasks
    assert (task.name, task.kind, task.data, task.metric) == ("chest", "linear", tmp_path / "chest.csv", "auc")
    assert [cell.name for cell in list_cells(recipe, tmp_path)] == ["guidino-tiny"]


@pytest.mark.parametrize(
    ("text", "start", "part"),
    [
        ("backbones: [guidino-tiny]\n", "tasks: must be given", "kind: linear"),
        (GOOD + "extra: 1\n", "extra: unknown key 'extra'", "known: backbones"),
        ("", "expected description, backbones, tasks", "found nothing"),
        (_task("kind: linear, data: ''"), "tasks.chest.data: must be given", ""),
        ("- a\n", "expected description, backbones, tasks", "found list"),
        (GOOD.replace("guidino-tiny", "guidino-tinny"), "backbones.guidino-tinny: unknown backbone", "guidino-tiny"),
        (
            "backbones: {a: {name: dinov4}}\ntasks: {t: {kind: knn, data: x}}",
            "backbones.a.name: unknown backbone",
            "dinov3",
        ),
        ("backbones: {a: {size: 3}}\ntasks: {t: {kind: knn, data: x}}", "backbones.a.size: unknown key", "weights"),
        (
            "backbones: {guidino-tiny: {layers: 6}}\ntasks: {t: {kind: knn, data: x}}",
            "backbones.guidino-tiny.layers: expected blocks",
            "found 6",
        ),
        (GOOD.replace("[guidino-tiny]", "[guidino-tiny, guidino-tiny]"), "backbones: 'guidino-tiny' is given", "twice"),
        (_task("data: x"), "tasks.chest.kind: must be given", "registration"),
        (_task("kind: liner, data: x"), "tasks.chest.kind: unknown kind of task 'liner'", "did you mean 'linear'"),
        (_task("kind: linear"), "tasks.chest.data: must be given", ""),
        (_task("kind: linear, data: 3"), "tasks.chest.data: expected text, found 3", ""),
        (_task("kind: linear, data: x, pxx: 3"), "tasks.chest.pxx: unknown key 'pxx'", "did you mean 'px'"),
        (_task("kind: linear, data: x, px: 5"), "tasks.chest: px 5: expected a side in pixels", ""),
        (_task("kind: linear, data: x, every: 0"), "tasks.chest.every: expected a number from 1, found 0", ""),
        (_task("kind: linear, data: x, seeds: true"), "tasks.chest.seeds: input should be a number", "found true"),
        (_task("kind: linear, data: x, solver: exakt"), "tasks.chest: solver: unknown solver 'exakt'", "exact"),
        (_task("kind: knn, data: x, k: [5, x]"), "tasks.chest: k 5,x: expected whole numbers", ""),
        (_task("kind: linear, data: x, metric: dice"), "tasks.chest.metric: unknown metric 'dice'", "auc"),
        (_task("kind: linear, data: x, backbones: [b]"), "tasks.chest.backbones: unknown backbone", "'b'"),
        (_task("kind: linear, data: x, controls: 1"), "tasks.chest.controls: expected true or false", "found 1"),
        (_task("kind: decoder, data: x"), "tasks.chest.preset: must be given", ""),
        (_task("kind: decoder, data: x, preset: nope"), "tasks.chest: unknown preset 'nope'", ""),
        (_task("kind: decoder, data: x, preset: own-plain-unet"), "tasks.chest: preset own-plain-unet", "frozen"),
        (
            _task("kind: decoder, data: x, preset: kvasir-light2d, set: {train.epoch: 1}"),
            "tasks.chest: kvasir-light2d: train.epoch: unknown setting",
            "'epochs'",
        ),
        (
            _task("kind: decoder, data: x, preset: kvasir-light2d, set: {model.backbone.name: dinov2}"),
            "tasks.chest: set: model.backbone is what",
            "",
        ),
        (
            _task("kind: decoder, data: x, preset: kvasir-light2d, folds: 5"),
            "tasks.chest.folds: is for linear, knn, abmil, and not for decoder",
            "trained once",
        ),
        (_task("kind: linear, data: x, grid: 4"), "tasks.chest.grid: is for registration, and not for linear", ""),
        (_task("kind: decoder, data: x, preset: kvasir-light2d, split: train"), "tasks.chest: split train", "test"),
        (_task("kind: registration, data: x.nii.gz"), "tasks.chest: data", "expected a table of pairs"),
        (_task("kind: registration, data: x.csv, features: mind"), "tasks.chest: features mind: MIND is a row", ""),
        (_task("kind: registration, data: x.csv, grid: 99"), "tasks.chest.grid: expected a number from 1 to 32", ""),
        (_task("kind: linear, data: x, paper: {figures: {a: {auc: 1}}}"), "tasks.chest.paper.source: must", "given"),
        (
            _task("kind: linear, data: x, paper: {source: s, figures: {a: {auk: 1}}}"),
            "tasks.chest.paper.figures.a: unknown metric 'auk'",
            "did you mean 'auc'",
        ),
        (
            _task("kind: linear, data: x, paper: {source: s, figures: {a: {auc: high}}}"),
            "tasks.chest.paper.figures.a.auc: expected a number",
            "found 'high'",
        ),
        ("backbones: [guidino-tiny]\ntasks:\n\tchest: {}\n", "not valid YAML (line 3", "docs/bench.md"),
        (GOOD + "  chest: {kind: knn, data: x}\n", "not valid YAML (line", "'chest' is given twice"),
        (GOOD + "  Chest: {kind: knn, data: x}\n", "tasks: chest and Chest would be one folder", ""),
        ("backbones: [guidino-tiny]\ntasks: {../x: {kind: knn, data: x}}", "tasks: the name '../x'", "folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line_with_the_path_of_the_key(tmp_path: Path, text: str, start: str, part: str) -> None:
    message = _refusal(tmp_path, text)
    assert message.startswith(start)
    assert part in message


def test_figures_in_percent_become_shares_and_distances_stay(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        GOOD.replace(
            "chest.csv}",
            "chest.csv, paper: {source: s, percent: true, figures: {A: {accuracy: 76.17, hd95: 8.5, "
            "fp_volume: 3.5, assd: 2, voi: 1.2, are: 20}}}}",
        )
    )
    paper = read_recipe(str(path)).tasks[0].paper
    assert paper is not None
    assert paper.figures["A"] == {
        "accuracy": pytest.approx(0.7617), "are": pytest.approx(0.2), "hd95": 8.5, "fp_volume": 3.5, "assd": 2,
        "voi": 1.2,
    }  # fmt: skip


def test_random_networks_stand_beside_decoders_and_registration_with_mind(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    tasks = {
        "a": {"kind": "registration", "data": "a.csv"},
        "b": {"kind": "decoder", "data": "b", "preset": "kvasir-light2d"},
        "c": {"kind": "registration", "data": "c.csv", "controls": False},
    }
    path.write_text(yaml.safe_dump({"backbones": ["guidino-tiny"], "tasks": tasks}))
    found = [(cell.task.name, cell.role) for cell in list_cells(read_recipe(str(path)), tmp_path)]
    assert found == [
        ("a", "mind"), ("a", "backbone"), ("a", "random"), ("b", "backbone"), ("b", "random"), ("c", "mind"),
        ("c", "backbone"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", recipe_names())
def test_a_packaged_recipe_is_valid_and_marks_the_figures_of_its_paper(name: str) -> None:
    recipe = read_recipe(name)
    check_tasks(recipe)
    assert recipe.description
    for task in recipe.tasks:
        # The paper shows BCNB as a chart without numbers; attention over slices of CT-RATE is a row of ours.
        if name == "bcnb" or (name, task.name) == ("ct-rate", "attention"):
            assert task.paper is None
            continue
        assert task.paper is not None
        assert "arXiv:2509.06467, Table" in task.paper.source
        for figures in task.paper.figures.values():
            assert task.metric in figures
            shares = [
                value for metric, value in figures.items() if metric not in {"hd95", "asd"} and "voi" not in metric
            ]
            assert all(0 <= value <= 1 for value in shares)


def test_every_table_of_the_benchmark_has_a_recipe() -> None:
    assert set(recipe_names()) == {
        "nih14", "rsna", "camelyon16", "bcnb", "kvasir-capsule", "autolaparo", "ct-rate", "msd", "autopet", "hecktor",
        "cremi", "ac34", "camus", "acdc",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "task", "method", "metric", "value"),
    [
        ("nih14", "nih14", "DINOv3-L", "auc", 0.7865),
        ("rsna", "rsna", "DINOv3-L", "auc", 0.8708),
        ("camelyon16", "camelyon17-unseen", "DINOv3-S", "auc", 0.854),
        ("kvasir-capsule", "kvasir-capsule", "DINOv3-B", "f1", 0.5513),
        ("autolaparo", "autolaparo", "DINOv3-L", "jaccard", 0.5765),
        ("ct-rate", "linear", "DINOv3-B", "auc", 0.798),
        ("msd", "spleen", "DINOv3-L", "dice", 0.912),
        ("autopet", "autopet", "DINOv3-B, CT+PET", "dice", 0.1453),
        ("hecktor", "hecktor", "DINOv3-S, CT+PET", "dice", 0.4013),
        ("cremi", "cremi-a", "DINOv3-L", "voi", 1.784),
        ("ac34", "ac34", "DINOv3-L", "are", 0.268),
        ("camus", "camus", "DINO-L+ConvexAdam", "dice", 0.8431),
        ("acdc", "acdc", "DINO-B+MIND+ConvexAdam", "dice", 0.7593),
    ],
)
def test_a_figure_is_the_one_that_the_paper_prints(
    name: str, task: str, method: str, metric: str, value: float
) -> None:
    paper = next(item for item in read_recipe(name).tasks if item.name == task).paper
    assert paper is not None
    assert paper.figures[method][metric] == pytest.approx(value)


def test_presets_lists_the_recipes_and_prints_one(guidino: Guidino) -> None:
    listed = " ".join(guidino("presets").stdout.split())
    assert "For guidino bench: ac34, acdc" in listed
    assert yaml.safe_load(guidino("presets", "camus").stdout)["tasks"]["camus"]["kind"] == "registration"


def test_a_recipe_that_does_not_exist_is_refused(guidino: Guidino, tmp_path: Path) -> None:
    unknown = guidino("bench", "nih15", "-o", tmp_path / "out")
    assert (unknown.code, "unknown recipe 'nih15'; did you mean" in unknown.stderr) == (2, True)
    gone = guidino("bench", tmp_path / "gone.yaml", "-o", tmp_path / "out")
    assert (gone.code, "cannot be read (No such file or directory)" in gone.stderr) == (2, True)
    folder = guidino("bench", tmp_path, "-o", tmp_path / "out")
    assert (folder.code, f"{tmp_path}: expected a recipe as a .yaml file" in folder.stderr) == (2, True)
