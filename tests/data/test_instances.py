"""Affinities of instances and back: exact for true ones, robust for noisy ones, whatever the numbers."""

import os
import subprocess
import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from guidino_cli.data.instances.affinities import affinities_of_labels, incident_maximum, incident_mean
from guidino_cli.data.instances.labelling import METHODS, Method, label_instances
from guidino_cli.data.instances.watershed import boundary_affinities, merge_fragments
from guidino_cli.metrics.overlap import adapted_rand_error, variation_of_information

LINE = np.array([[1, 1, 2, 2, 0, 0, 2]])


def balls(*, count: int = 12, side: int = 40, radius: float = 4, seed: int = 0) -> np.ndarray:
    """Balls of one to nearly two radii, each in a cell of its own by the nearest centre, so that some touch."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(5, side - 5, (count, 3))
    radii = generator.uniform(radius, 1.75 * radius, count)
    grid = np.stack(np.meshgrid(*(np.arange(side),) * 3, indexing="ij"), axis=-1)
    distance = np.linalg.norm(grid[..., None, :] - centres, axis=-1)
    nearest = distance.argmin(axis=-1)
    return np.where(distance.min(axis=-1) < radii[nearest], nearest + 1, 0)


def one(
    affinities: np.ndarray, method: Method = "watershed", threshold: float = 0.5, *, min_size: int = 0
) -> np.ndarray:
    spacing = (1.0,) * len(affinities)
    (labels,) = label_instances(affinities, [threshold], method=method, spacing=spacing, min_size=min_size)
    return labels


def noisy(labels: np.ndarray, *, seed: int = 0) -> np.ndarray:
    """True affinities blurred by a pixel, with noise of deviation 0.2."""
    blurred = np.stack([gaussian_filter(own, 1) for own in affinities_of_labels(labels)])
    noise = np.random.default_rng(seed).normal(0, 0.2, blurred.shape)
    return (blurred + noise).clip(0, 1).astype(np.float32)


def test_a_pixel_is_joined_to_the_one_before_it_if_both_are_of_one_instance() -> None:
    rows, columns = affinities_of_labels(LINE)
    assert columns[0].tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert not rows.any()


def test_affinities_of_both_sides_of_a_pixel_are_averaged_and_those_outside_do_not_count() -> None:
    """Along columns 1, 1/2, 1/2, 1, 0...; the single row has no neighbour of another one."""
    affinities = affinities_of_labels(LINE)
    assert incident_mean(affinities)[0].tolist() == [1, 0.5, 0.5, 0.5, 0, 0, 0]
    assert incident_maximum(affinities)[0].tolist() == [1, 1, 1, 1, 0, 0, 0]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.95])
def test_true_affinities_give_the_instances_back(method: Method, threshold: float) -> None:
    labels = balls()
    found = one(affinities_of_labels(labels), method, threshold)
    assert variation_of_information(found, labels) == (pytest.approx(0, abs=1e-9), pytest.approx(0, abs=1e-9))
    assert adapted_rand_error(found, labels) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_true_affinities_of_an_image_give_the_instances_back(method: Method) -> None:
    labels = balls()[20]
    found = one(affinities_of_labels(labels), method)
    assert found.shape == labels.shape
    assert sum(variation_of_information(found, labels)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_a_concave_instance_stays_whole_and_its_touching_neighbour_apart(method: Method) -> None:
    """A comb around a second instance, which touches it everywhere: no distance tells them apart, affinities do."""
    labels = np.ones((12, 31), dtype=np.int64)
    labels[2:, 3::4], labels[2:, 4::4] = 2, 2
    labels[10:] = 2
    found = one(affinities_of_labels(labels), method)
    assert sum(variation_of_information(found, labels)) == pytest.approx(0, abs=1e-9)


def test_noisy_affinities_find_nearly_all_pairs() -> None:
    """Balls that touch, of which 4 % of the pairs of voxels are lost at the blurred borders."""
    labels = balls(side=60, radius=7)
    assert adapted_rand_error(one(noisy(labels), threshold=0.8), labels) < 0.05


@pytest.mark.parametrize("method", METHODS)
def test_other_numbers_of_the_instances_change_nothing(method: Method) -> None:
    labels = balls()
    renumbered = np.append(0, np.random.default_rng(1).permutation(40)[:12] + 1)[labels]
    first, second = (one(noisy(item), method, 0.7) for item in (labels, renumbered))
    np.testing.assert_array_equal(first, second)
    assert adapted_rand_error(first, labels) == pytest.approx(adapted_rand_error(first, renumbered), abs=1e-12)
    assert variation_of_information(first, labels) == pytest.approx(variation_of_information(first, renumbered))


@pytest.mark.parametrize("method", METHODS)
def test_each_threshold_has_its_own_result_in_the_order_asked_for(method: Method) -> None:
    """waterz yields one buffer again and again, and orders thresholds by itself."""
    affinities, thresholds = noisy(balls()), (0.9, 0.1, 0.5)
    together = list(label_instances(affinities, thresholds, method=method, spacing=(1, 1, 1)))
    for labels, threshold in zip(together, thresholds, strict=True):
        np.testing.assert_array_equal(labels, one(affinities, method, threshold))
    assert together[0].max() > together[1].max()


def test_merging_weighs_means_by_their_faces() -> None:
    """1-2 merge first (0.9). 3 then touches both: (1 face of 1.0 and 3 of 0.4) has mean 0.55."""
    fragments = np.arange(4)
    pairs, means, counts = np.array([[1, 2], [1, 3], [2, 3]]), np.array([0.9, 0.8, 0.4]), np.array([5, 1, 3])
    found = merge_fragments(fragments, pairs, means, counts, [0.45, 0.55, 0.95])
    assert [labels.tolist() for labels in found] == [[0, 1, 1, 1], [0, 1, 1, 2], [0, 1, 2, 3]]


def test_twenty_thresholds_merge_every_pair_of_fragments_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A chain of 40 fragments has 39 merges, not 39 for each threshold."""
    counted: list[int] = []
    monkeypatch.setattr("guidino_cli.data.instances.watershed._keep", lambda *_: counted.append(1))
    fragments = np.arange(41)
    pairs = np.stack((np.arange(1, 40), np.arange(2, 41)), axis=1)
    means, counts = np.linspace(0.2, 0.9, 39), np.ones(39, dtype=int)
    thresholds = [round(0.05 * step, 2) for step in range(1, 20)]
    found = list(merge_fragments(fragments, pairs, means, counts, thresholds))
    assert len(counted) == 39
    assert [int(labels.max()) for labels in (found[0], found[9], found[-1])] == [1, 1 + int((means <= 0.5).sum()), 40]


def test_faces_between_fragments_are_averaged_over_all_axes() -> None:
    fragments = np.array([[1, 1], [2, 1]])
    affinities = np.array([[[0, 0], [0.2, 0.9]], [[0, 0.9], [0, 0.6]]], dtype=np.float32)
    pairs, means, counts = boundary_affinities(affinities, fragments)
    assert pairs.tolist() == [[1, 2]]
    assert (means[0], counts[0]) == (pytest.approx(0.4), 2)


def test_small_instances_become_background_and_numbers_have_no_gaps() -> None:
    labels = np.array([[1, 1, 0, 2, 2, 2, 0, 3, 3, 3, 3]])
    assert one(affinities_of_labels(labels), min_size=3).tolist() == [[0, 0, 0, 1, 1, 1, 0, 2, 2, 2, 2]]


def test_no_affinity_gives_no_instance() -> None:
    assert not one(np.zeros((2, 5, 5), dtype=np.float32)).any()


def test_waterz_prints_nothing() -> None:
    code = (
        "import numpy as np; from guidino_cli.data.instances.labelling import label_instances; "
        "a = np.ones((3, 6, 6, 6), dtype=np.float32); "
        "print(next(label_instances(a, [0.5], method='waterz', spacing=(1, 1, 1))).max())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
