"""Instances from affinities by scikit-image: a watershed into fragments, merged by the mean affinity between them.

An over-segmentation is agglomerated as by Funke et al. 2018 (arXiv:1709.02974), who take waterz for both steps. With
true affinities every threshold in (0, 1) gives back the instances, except that parts without a common face become
instances of their own, and single pixels, which have no affinity, background.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from guidino_cli.data.instances.affinities import incident_maximum, incident_mean, links

LINKED = 0.5
"""Affinity above which two neighbours are more probably of one instance than not."""
_SMOOTHING = 1.0
"""Deviation, in pixels, of the smoothing of the distances whose maxima begin the fragments."""


def label_by_watershed(
    affinities: np.ndarray, thresholds: Sequence[float], *, spacing: Sequence[float]
) -> Iterator[np.ndarray]:
    """Instances at several thresholds.

    Args:
        affinities: (A, ...) in [0, 1], see `affinities_of_labels`.
        thresholds: Fragments are merged while the mean affinity of their common faces is above it.
        spacing: Size of a pixel along the A axes, in any unit.

    Yields:
        For each threshold, in its order, instance numbers uint32, 0 is the background.
    """
    fragments = split_into_fragments(affinities, spacing=spacing)
    pairs, means, counts = boundary_affinities(affinities, fragments)
    yield from merge_fragments(fragments, pairs, means, counts, thresholds)


def split_into_fragments(affinities: np.ndarray, *, spacing: Sequence[float]) -> np.ndarray:
    """Over-segment by a watershed whose basins are the maxima of the distance to uncertain pixels.

    A fragment is connected by affinities above `LINKED`, so no fragment crosses a boundary that the affinities show.

    Returns:
        Fragment numbers int32, 0 where no affinity to a neighbour is above `LINKED`.
    """
    from scipy.ndimage import distance_transform_edt, gaussian_filter, label
    from skimage.morphology import local_maxima
    from skimage.segmentation import watershed

    inside = incident_maximum(affinities) > LINKED
    distance = distance_transform_edt(incident_mean(affinities) > LINKED, sampling=spacing)
    smooth = gaussian_filter(distance.astype(np.float32), _SMOOTHING)
    markers, _ = label(local_maxima(smooth) & inside)
    basins = watershed(-smooth, markers, mask=inside)
    return _connected_parts(affinities, basins, inside)


def _connected_parts(affinities: np.ndarray, basins: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Parts of basins that are connected by affinities above `LINKED`."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    number = np.zeros(inside.shape, dtype=np.int64)
    number[inside] = np.arange(1, np.count_nonzero(inside) + 1)
    rows, columns = [], []
    for axis, values in enumerate(affinities):
        ends, starts = links(inside.ndim, axis)
        joined = (values[ends] > LINKED) & (basins[ends] == basins[starts])
        rows.append(number[ends][joined])
        columns.append(number[starts][joined])
    first, second = np.concatenate(rows), np.concatenate(columns)
    count = int(number.max()) + 1
    graph = coo_array((np.ones(len(first), dtype=bool), (first, second)), shape=(count, count))
    _, parts = connected_components(graph, directed=False)
    # The background's number is a part by itself: 0.
    return np.asarray(np.where(inside, parts[number] + 1, 0), dtype=np.int32)


def boundary_affinities(affinities: np.ndarray, fragments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean affinity of the common faces of neighbouring fragments.

    Returns:
        (N, 2) fragment numbers, the smaller one first; their mean affinities; their numbers of faces.
    """
    pairs, values = [], []
    for axis, own in enumerate(affinities):
        ends, starts = links(fragments.ndim, axis)
        first, second = fragments[ends], fragments[starts]
        touching = (first != second) & (first > 0) & (second > 0)
        pairs.append(np.sort(np.stack((first[touching], second[touching]), axis=1), axis=1))
        values.append(own[ends][touching])
    unique, place, counts = np.unique(np.concatenate(pairs), axis=0, return_inverse=True, return_counts=True)
    sums = np.bincount(place.ravel(), weights=np.concatenate(values), minlength=len(unique))
    return unique, sums / np.maximum(counts, 1), counts


def merge_fragments(
    fragments: np.ndarray, pairs: np.ndarray, means: np.ndarray, counts: np.ndarray, thresholds: Sequence[float]
) -> Iterator[np.ndarray]:
    """Merge the two neighbours of the highest mean affinity, until none is above a threshold.

    Merging goes on from one threshold to the next lower one: where a network has learnt little, each takes minutes.

    Args:
        fragments: Fragment numbers, 0 is the background.
        pairs: (N, 2) neighbours, see `boundary_affinities`.
        means: Their mean affinities.
        counts: Their common faces, the weights of the means when fragments merge.
        thresholds: In (0, 1).

    Yields:
        For each threshold, in its order, instance numbers uint32 from 1 without gaps, 0 is the background.
    """
    from skimage.graph import RAG, merge_hierarchical

    highest = int(fragments.max(initial=0))
    graph = RAG()
    graph.add_nodes_from((number, {"labels": [number]}) for number in range(1, highest + 1))
    for (first, second), mean, count in zip(pairs.tolist(), means.tolist(), counts.tolist(), strict=True):
        graph.add_edge(first, second, weight=1 - mean, count=count)
    # scikit-image renumbers the labels themselves: here a line of all fragments, not the volume.
    line, tables = np.arange(highest + 1), {}
    for threshold in sorted(thresholds, reverse=True):
        merged = merge_hierarchical(
            line, graph, 1 - threshold, rag_copy=False, in_place_merge=True, merge_func=_keep, weight_func=_mean_of_both
        )
        table = np.zeros(highest + 1, dtype=np.uint32)
        _, numbers = np.unique(merged[1:], return_inverse=True)
        table[1:] = numbers + 1
        tables[threshold] = table
    yield from (tables[threshold][fragments] for threshold in thresholds)


def _keep(*_: object) -> None:
    """Nothing but the edges is weighed."""


def _mean_of_both(graph, source, target, neighbour):  # type: ignore[no-untyped-def]
    """Weight of the edge from a merged fragment to a neighbour: the mean over the faces of both parts."""
    none = {"weight": 0.0, "count": 0}
    first, second = (graph[part].get(neighbour, none) for part in (source, target))
    count = first["count"] + second["count"]
    return {"count": count, "weight": (first["weight"] * first["count"] + second["weight"] * second["count"]) / count}
