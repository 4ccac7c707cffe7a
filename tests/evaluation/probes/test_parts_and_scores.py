"""Parts that keep patients together, thresholds, intervals over patients, leakage and places of tiles."""

from pathlib import Path

import numpy as np
import pytest
import torch
from feature_folders import draw_items, draw_vectors, write_features

from guidino_cli.data.feature_folder import FeatureItem, read_feature_folder
from guidino_cli.data.labelled.items import LabelledItem
from guidino_cli.evaluation.probes.bags import BagProblem, bag_loss, solve_bags
from guidino_cli.evaluation.probes.decisions import choose_threshold, decide
from guidino_cli.evaluation.probes.parts import Partition, make_partitions
from guidino_cli.evaluation.probes.places import grid_places
from guidino_cli.evaluation.probes.problem import ProbeFit
from guidino_cli.evaluation.probes.samples import ProbeSample, ProbeSamples, collect_samples, first_if_grey
from guidino_cli.evaluation.probes.sanity import check_leakage
from guidino_cli.evaluation.probes.scores import ProbeScorer, RunScores
from guidino_cli.plots.probes import calibration_points, roc_points


def _samples(labels: list[int], *, groups: list[str] | None = None, split: str = "") -> ProbeSamples:
    samples = []
    for number, label in enumerate(labels):
        group = groups[number] if groups else str(number)
        item = LabelledItem(f"{number:03d}", Path(f"{number:03d}.png"), (label,), split, group)
        samples.append(ProbeSample(item.id, (FeatureItem(item, (8, 8), number, 1),), (label,), group, split, None))
    return ProbeSamples(tuple(samples), ("no", "yes"), False)


def _fit(scores: np.ndarray) -> ProbeFit:
    both = np.stack([1 - scores, scores], axis=1)
    return ProbeFit(both, both, np.zeros(both.shape, np.int64), "", None, "")


def test_folds_keep_patients_together_and_test_everyone_once() -> None:
    generator = np.random.default_rng(0)
    data = _samples(generator.integers(0, 2, 60).tolist(), groups=[str(number // 3) for number in range(60)])
    parts, _ = make_partitions(data, folds=4, seeds=[0], per_class=None)
    assert len(parts) == 4
    assert sorted(np.concatenate([part.test for part in parts]).tolist()) == list(range(60))
    for part in parts:
        assert not set(data.groups[part.train]) & set(data.groups[part.test])


def test_without_a_test_part_val_is_tested_and_chooses_nothing(tmp_path: Path) -> None:
    items = [
        LabelledItem(item.id, item.path, item.labels, "val" if item.split == "test" else "train", item.group)
        for item in draw_items(tmp_path, 30)
    ]
    write_features(tmp_path, items, draw_vectors(items), ["x", "y"])
    data = collect_samples(read_feature_folder(tmp_path))
    (part,), rule = make_partitions(data, folds=None, seeds=[0], per_class=None)
    assert (part.name, len(part.test), len(part.val), len(part.train)) == ("val", 10, 0, 20)
    assert "no test part: tested on val, which chose nothing" in rule


def test_samples_without_a_part_are_counted(tmp_path: Path) -> None:
    items = [
        LabelledItem(item.id, item.path, item.labels, "" if number < 4 else item.split, item.group)
        for number, item in enumerate(draw_items(tmp_path, 30))
    ]
    write_features(tmp_path, items, draw_vectors(items), ["x", "y"])
    data = collect_samples(read_feature_folder(tmp_path))
    (part,), rule = make_partitions(data, folds=None, seeds=[0], per_class=None)
    assert len(part.train) + len(part.test) == 26
    assert "official split; no val part: settings are chosen by folds of train; 4 samples without a part" in rule


def test_a_balanced_training_part_has_as_many_of_each_class() -> None:
    data = _samples([0] * 40 + [1] * 10)
    parts, _ = make_partitions(data, folds=5, seeds=[0], per_class=6)
    for part in parts:
        assert np.bincount(data.labels[part.train].argmax(axis=1)).tolist() == [6, 6]


def test_equal_images_of_a_patient_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    labels = np.repeat(generator.integers(0, 2, 30), 8)
    scores = np.clip(np.repeat(generator.normal(size=30), 8) * 0.2 + 0.5 + 0.1 * labels, 0, 1)
    widths = {}
    for name, groups in (("images", None), ("patients", [str(number // 8) for number in range(240)])):
        data = _samples(labels.tolist(), groups=groups)
        places = np.arange(240)
        part = Partition("test", 0, places, places[:0], places)
        scorer = ProbeScorer(data, [part])
        called = np.stack([scores < 0.5, scores >= 0.5], axis=1)
        score = scorer.summarize(scorer.measure([RunScores(part, _fit(scores), called)]))["macro", "auc"]
        widths[name] = score.high - score.low
    # Eight copies carry the information of one: the interval is about sqrt(8) times as wide.
    assert 2 < widths["patients"] / widths["images"] < 4


def test_the_mean_over_folds_leaves_out_a_fold_without_positives() -> None:
    data = _samples([0, 1, 0, 1, 0, 0])
    places = np.arange(6)
    parts = [
        Partition("fold 0", 0, places, places[:0], places[:4]),
        Partition("fold 1", 0, places, places[:0], places[4:]),
    ]
    scorer = ProbeScorer(data, parts)
    # In fold 0 three of four pairs are in order.
    runs = [
        RunScores(part, _fit(scores), np.stack([scores < 0.5, scores >= 0.5], axis=1))
        for part, scores in zip(parts, (np.array([0.6, 0.5, 0.1, 0.9]), np.array([0.2, 0.3])), strict=True)
    ]
    score = scorer.summarize(scorer.measure(runs))["macro", "auc"]
    assert (score.mean, score.defined, score.total) == (0.75, 1, 1)


def test_thresholds_by_hand() -> None:
    scores, labels = np.array([0.1, 0.2, 0.3, 0.4, 0.9]), np.array([0, 1, 0, 1, -1])
    # At .4: 1/2 - 0/2 = .5. At .2: 2/2 - 1/2 = .5 too, and the first is taken; F1 at .2 is 4/5, at .4 2/3.
    assert choose_threshold(scores, labels, "youden") == 0.2
    assert choose_threshold(scores, labels, "f1") == 0.2
    assert choose_threshold(scores, labels, "0.5") == 0.5
    assert choose_threshold(scores, np.zeros(5, np.int64), "f1") == 0.5


def test_three_exclusive_classes_are_decided_by_the_highest_score() -> None:
    scores = np.array([[0.3, 0.3, 0.4], [0.2, 0.6, 0.2]])
    fit = ProbeFit(scores, scores, np.zeros((2, 3), np.int64), "", None, "")
    called, thresholds = decide(fit, is_multilabel=False, rule="0.5")
    assert (called.argmax(axis=1).tolist(), called.sum(), thresholds) == ([2, 1], 2, [])


def test_a_label_that_follows_the_file_names_is_suspicious() -> None:
    sorted_labels = _samples([0] * 30 + [1] * 30)
    (found,) = check_leakage(sorted_labels, np.arange(60), [1])
    assert (found.what, found.auc, found.is_suspicious) == ("file index", 1.0, True)
    mixed = _samples(np.random.default_rng(0).integers(0, 2, 400).tolist())
    assert not check_leakage(mixed, np.arange(400), [1])[0].is_suspicious


def test_places_of_tiles_are_read_from_their_names() -> None:
    assert grid_places(["s_0_0", "s_512_0", "s_1024_256"]) == [(0, 0), (1, 0), (2, 1)]
    assert grid_places(["a", "b"]) is None
    assert grid_places(["s_1_1", "s_1_1"]) is None


def test_pixels_of_grey_pictures_are_one_channel() -> None:
    grey = np.tile(np.arange(4.0), (2, 3))
    np.testing.assert_array_equal(first_if_grey(grey), grey[:, :4])
    colour = grey.copy()
    colour[0, 5] = 9
    assert first_if_grey(colour).shape == (2, 12)


def test_points_of_curves_by_hand() -> None:
    fp, tp = roc_points(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
    assert (fp.tolist(), tp.tolist()) == ([0, 0, 0.5, 1], [0, 0.5, 1, 1])
    means, shares, counts = calibration_points(np.array([0.05, 0.03, 1.0]), np.array([True, False, True]))
    assert (means.round(2).tolist(), shares.tolist(), counts.tolist()) == ([0.04, 1.0], [0.5, 1.0], [2, 1])


def test_an_unknown_label_adds_nothing_to_the_loss_of_a_bag() -> None:
    logits = torch.tensor([2.0, -1.0])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:1], torch.ones(1))
    assert bag_loss(logits, torch.tensor([1, -1]), is_multilabel=True) == pytest.approx(float(expected))


def test_the_epoch_with_the_best_validation_is_kept() -> None:
    generator = np.random.default_rng(0)
    labels = (np.arange(24) % 2)[:, None] == np.arange(2)
    bags = [generator.normal(size=(5, 4)).astype(np.float32) + 2 * row[1] for row in labels]
    whole = labels.astype(np.int64)
    problem = BagProblem(bags[:12], whole[:12], bags[12:18], whole[12:18], bags[18:], False, 0, 5)
    fit, attention = solve_bags(problem)
    assert (fit.test.shape, len(attention), fit.choice.split()[0]) == ((6, 2), 6, "epoch")
    again, _ = solve_bags(problem)
    np.testing.assert_array_equal(fit.test, again.test)
