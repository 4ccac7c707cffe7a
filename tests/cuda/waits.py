"""Where guidino waits for the device: every place that a check on the pretended device may find, with its reason.

A wait empties the device's queue of work: in every training step it would cost as much as the step on a fast card. A
new place fails the tests; so does one in this list that no check finds any more.
"""

# (kind, place): reason
TRAINING_STEP: dict[tuple[str, str], str] = {}

FIRST_STEP = {
    ("copy out", "engine/feature_cache/cache.py:MemoryCache.get_or_compute.<locals>.<listcomp>"): (
        "features are put into main memory once; a copy of each level"
    ),
    ("copy out", "engine/feature_cache/disk.py:_to_half.<locals>.<listcomp>"): (
        "features are written to a file once; a copy of each level"
    ),
}

VALIDATION = {
    ("copy out", "engine/prediction/predictor.py:_argmax"): "the mask of a case, a byte a pixel",
    ("copy out", "engine/feature_cache/cache.py:MemoryCache.get_or_compute.<locals>.<listcomp>"): (
        "features of a validation case, in the first validation"
    ),
    ("copy out", "engine/feature_cache/disk.py:_to_half.<locals>.<listcomp>"): (
        "features of a validation case, in the first validation"
    ),
    ("copy out", "engine/feature_cache/disk.py:pixel_digest"): (
        "names the file of a case, in the first validation of a run"
    ),
}

PREDICTION = {
    ("copy in: unpinned, blocking", "engine/prediction/ensemble.py:load_ensemble"): "weights, once",
    ("copy out", "engine/prediction/predictor.py:_argmax"): "the mask of an image, a byte a pixel",
    (
        "copy out",
        "engine/prediction/quality.py:QualitySums.add",
    ): "sums for the scores of a mask, a few numbers a class",
}

PRETRAINING_STEP: dict[tuple[str, str], str] = {}

NETWORKS: dict[tuple[str, str], str] = {}
"""A forward and a backward pass of each network."""

DOUBLES = {
    "engine/prediction/quality.py:QualitySums.add.<locals>.by_class": "sums over an image, by `sum_dtype`",
    "engine/prediction/quality.py:QualitySums.add": "sums over an image, by `sum_dtype`",
    "engine/prediction/quality.py:QualitySums.add.<locals>.<listcomp>": "sums over an image, by `sum_dtype`",
}
"""Places that compute in float64 on the device: each must do without on Apple's."""
