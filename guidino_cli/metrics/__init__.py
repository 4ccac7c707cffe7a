"""Registry of the metrics that `evaluate` reports."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """Name, kind and direction of a metric.

    Attributes:
        name: Column in the files.
        label: Heading in tables.
        kind: "share" lies in [0, 1]; "distance" has a unit (mm or px), "volume" is in ml; "error" and "bits" are
            unbounded above.
        higher_is_better: Whether larger values are better.
        help: One line for the documentation.
    """

    name: str
    label: str
    kind: Literal["share", "distance", "volume", "error", "bits"]
    higher_is_better: bool
    help: str

    @property
    def best(self) -> float:
        """Value of a perfect prediction."""
        return 1.0 if self.higher_is_better else 0.0


_ALL = (
    Metric("iou", "IoU", "share", True, "intersection over union (Jaccard)"),
    Metric("dice", "Dice", "share", True, "twice the intersection over the sum of both areas (F1 of the pixels)"),
    Metric("hd95", "HD95", "distance", False, "95th percentile of the distances between both borders"),
    Metric("hd", "HD", "distance", False, "largest distance between both borders (Hausdorff)"),
    Metric("asd", "ASD", "distance", False, "mean distance from the predicted border to the true one (one direction)"),
    Metric("assd", "ASSD", "distance", False, "mean distance between both borders, both directions pooled"),
    Metric("nsd", "NSD", "share", True, "share of both borders that lies within the tolerance of the other"),
    Metric("precision", "Precision", "share", True, "share of the predicted pixels that are true"),
    Metric("recall", "Recall", "share", True, "share of the true pixels that were predicted"),
    Metric("specificity", "Specificity", "share", True, "share of the background that was not predicted"),
    Metric("size_error", "Size error", "error", False, "area or volume: |predicted - true| / true"),
    Metric("lesion_f1", "Lesion F1", "share", True, "F1 of the connected objects found"),
    Metric("lesion_recall", "Lesion recall", "share", True, "share of the true connected objects that were found"),
    Metric("lesion_precision", "Lesion prec.", "share", True, "share of the predicted connected objects that are true"),
    Metric("fp_volume", "FP volume", "volume", False, "volume of the predicted objects that touch no true voxel"),
    Metric("fn_volume", "FN volume", "volume", False, "volume of the true objects that no predicted voxel touches"),
    Metric("are", "Adapted Rand error", "error", False, "instances: 1 - F1 of the pixel pairs that share an instance"),
    Metric("voi", "VOI", "bits", False, "instances: variation of information, merged plus split"),
    Metric("voi_merge", "VOI merged", "bits", False, "instances: bits lost by merging true instances"),
    Metric("voi_split", "VOI split", "bits", False, "instances: bits added by splitting true instances"),
)

METRICS: dict[str, Metric] = {metric.name: metric for metric in _ALL}

SURFACE_METRICS = frozenset({"hd95", "hd", "asd", "assd", "nsd"})
LESION_METRICS = frozenset({"lesion_f1", "lesion_recall", "lesion_precision"})
VOLUME_METRICS = frozenset({"fp_volume", "fn_volume"})
INSTANCE_METRICS = frozenset({"are", "voi", "voi_merge", "voi_split"})
