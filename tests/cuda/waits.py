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
    ("copy in: unpinned, blocking", "engine/prediction/ensemble.py:_load_member"): "weights, once",
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

TOOL_DOUBLES = {
    **DOUBLES,
    "device_transfer.py:to_double": "in main memory if the device has no such numbers",
    "registration/features.py:fit_pca": "with numbers of `to_double`",
}

TOOLS = {
    "features": {
        ("copy in: unpinned, blocking", "commands/features.py:_build_networks"): "weights, once",
        ("copy out", "engine/features/vectors.py:image_vectors"): "vectors of a batch, in half precision",
    },
    "register": {
        ("copy in: unpinned, blocking", "commands/register_network.py:load_backbone"): "weights, once",
        ("copy in: unpinned, blocking", "registration/convex.py:solve_coupled"): "displacements of the search, once",
        ("copy in: unpinned, blocking", "registration/convexadam.py:search_displacements"): "spacing, once",
        ("copy in: unpinned, blocking", "registration/features.py:compute_maps"): "slices of the two images, once",
        ("copy in: unpinned, blocking", "registration/extraction.py:RegistrationFeatures.grey"): "the two images, once",
        ("copy out", "registration/convexadam.py:register_features"): "the field, once",
        ("read: _local_scalar_dense", "registration/features.py:fit_pca"): "scale of the PCA, once",
        ("read: tolist", "registration/features.py:find_distinct_slices"): "which slices are seen, once an image",
    },
    "register train": {
        ("copy in: unpinned, blocking", "commands/register_network.py:load_backbone"): "weights, once",
        ("copy in: unpinned, blocking", "commands/register_train.py:_train"): "weights, once",
        ("copy in: unpinned, blocking", "registration/extraction.py:RegistrationFeatures.grey"): "an image, once",
        ("copy in: unpinned, blocking", "registration/features.py:Pca.to"): "the PCA, once",
        ("copy in: unpinned, blocking", "registration/features.py:compute_maps"): "slices of an image, once",
        ("copy out", "registration/extraction.py:RegistrationFeatures.draw"): "tokens of which the PCA is made, once",
        ("copy out", "registration/network_files.py:NetworkFolder.write_weights.<locals>.<dictcomp>"): "weights, once",
        ("copy out", "registration/pca_files.py:write_pca.<locals>.write"): "the PCA, once",
        ("read: _local_scalar_dense", "registration/network.py:RegistrationNetwork.forward"): (
            "whether the field of a step is finite: if not, torch would read beyond its memory"
        ),
        ("read: _local_scalar_dense", "registration/training.py:NetworkTrainer.advance"): (
            "whether the loss of a step is finite"
        ),
        ("read: _local_scalar_dense", "registration/training.py:NetworkTrainer.advance.<locals>.<genexpr>"): (
            "loss and its parts, in each step"
        ),
        ("read: tolist", "registration/features.py:find_distinct_slices"): "which slices are seen, once an image",
    },
    "register --network": {
        ("copy in: unpinned, blocking", "commands/register_network.py:load_backbone"): "weights, once",
        ("copy in: unpinned, blocking", "registration/extraction.py:RegistrationFeatures.grey"): "the two images, once",
        ("copy in: unpinned, blocking", "registration/features.py:Pca.to"): "the PCA, once",
        ("copy in: unpinned, blocking", "registration/features.py:compute_maps"): "slices of the two images, once",
        ("copy in: unpinned, blocking", "registration/network_files.py:NetworkFolder.load_network"): "weights, once",
        ("copy out", "registration/method.py:make_network_finder.<locals>.find"): "the field, once",
        ("read: _local_scalar_dense", "registration/network.py:RegistrationNetwork.forward"): (
            "whether the field is finite, once"
        ),
        ("read: tolist", "registration/features.py:find_distinct_slices"): "which slices are seen, once an image",
    },
    "fewshot": {
        ("copy in: unpinned, blocking", "commands/fewshot.py:run"): "weights, once",
        ("copy in: unpinned, blocking", "engine/fewshot/fitting.py:maps"): "an image, its features and its guide",
        ("copy in: unpinned, blocking", "engine/fewshot/images.py:see"): "an image",
        ("copy in: unpinned, blocking", "models/ridge.py:RidgeGuide.set_scorers"): "the solution, once",
        ("copy in: unpinned, blocking", "models/segmenters/guided_filter.py:GuidedFilter.set_thresholds"): (
            "the solution, once"
        ),
        ("copy out", "engine/fewshot/fitting.py:maps"): "a map of an image",
        ("copy out", "engine/fewshot/images.py:see"): "features of an image, of which sums are made on the CPU",
        ("copy out", "engine/runs/best.py:BestWeights.save.<locals>.<dictcomp>"): "weights, once",
        ("read: tolist", "engine/runs/folder.py:backbone_statistics.<locals>.<dictcomp>"): "once",
    },
    "drift": {
        ("copy in: unpinned, blocking", "engine/drift/descriptors.py:load_instrument"): "weights, once",
        ("copy out", "engine/drift/descriptors.py:describe_pixels"): "the descriptor of an image",
    },
    "tune-risk": {
        ("copy in: unpinned, blocking", "engine/prediction/ensemble.py:_load_member"): "weights, once",
        ("copy out", "commands/tune_risk.py:measure_case.<locals>.measure"): "probabilities, of which curves are made",
        ("copy out", "engine/prediction/predictor.py:_argmax"): "the mask of an image",
        ("copy out", "engine/prediction/quality.py:QualitySums.add"): "sums for the scores of a mask",
    },
    "instances": {
        ("copy in: unpinned, blocking", "engine/prediction/volume_ensemble.py:load_volume_ensemble"): "weights, once",
        ("copy out", "engine/prediction/instances.py:predict_affinities"): "affinities of a band, for the CPU",
    },
}
"""Of commands that train no segmentation network; `register` waits for nothing in its steps of Adam."""
