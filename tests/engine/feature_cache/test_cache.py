"""Repeated features of a frozen backbone are computed once, and the result does not change."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings, load_preset
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.feature_cache.cache import MemoryCache, make_memory_cache
from guidino_cli.engine.prediction.inference import segment_image
from guidino_cli.engine.prediction.sliding import Window
from guidino_cli.engine.runs.folder import RunFolder, with_data_root
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.models import build_backbone, build_model
from guidino_cli.models.composed import Model

BACKBONE = ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2})
TAPPED = ComponentSettings("random", {**BACKBONE.options, "layers": [1, 2, 3, 4]})
# Not looked at: in memory, keys are believed.
PIXELS = torch.empty(0)
MODELS = {
    "guided": ModelSettings(ComponentSettings("unet", {"width": 4}), BACKBONE, guide=GuideSettings(at="bottleneck")),
    "segdino": ModelSettings(ComponentSettings("segdino"), TAPPED),
    "seg-guidino": ModelSettings(ComponentSettings("seg-guidino"), BACKBONE, guide=GuideSettings(at="bottleneck")),
}


class Counter:
    """Counts how often it computes; every call gives other maps."""

    def __init__(self, batch: int = 2) -> None:
        self.calls, self.batch = 0, batch

    def __call__(self) -> list[Tensor]:
        self.calls += 1
        return [torch.randn(self.batch, 3, 2, 5), torch.randn(self.batch, 8, 1, 1)]


def _model(name: str) -> Model:
    torch.manual_seed(0)
    return build_model(MODELS[name], num_classes=2).eval()


def _count_passes(model: Model) -> list[int]:
    """The batch sizes that the backbone sees from now on."""
    seen: list[int] = []
    assert model.backbone is not None
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    return seen


def test_the_same_batch_is_computed_once() -> None:
    cache, compute = MemoryCache(1), Counter()
    first = cache.get_or_compute(["a", "b"], compute, pixels=PIXELS)
    again = cache.get_or_compute(["a", "b"], compute, pixels=PIXELS)
    assert compute.calls == 1
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


def test_samples_are_cached_one_by_one() -> None:
    cache, compute = MemoryCache(1), Counter()
    (first, _), (second, _) = (
        cache.get_or_compute(["a", "b"], compute, pixels=PIXELS),
        cache.get_or_compute(["c", "d"], compute, pixels=PIXELS),
    )
    mixed = cache.get_or_compute(["d", "a", "a"], compute, pixels=PIXELS)[0]
    assert compute.calls == 2
    assert torch.equal(mixed, torch.stack([second[1], first[0], first[0]]))


def test_a_batch_with_one_unknown_sample_is_computed() -> None:
    cache, compute = MemoryCache(1), Counter()
    cache.get_or_compute(["a", "b"], compute, pixels=PIXELS)
    cache.get_or_compute(["a", "c"], compute, pixels=PIXELS)
    assert compute.calls == 2


def test_cached_features_keep_their_memory_format() -> None:
    """A ViT's maps are tokens by channels, and a convolution may round differently over another order."""
    maps = [torch.randn(2, 1 + 15, 8)[:, 1:].transpose(1, 2).unflatten(2, (3, 5))]
    cache = MemoryCache(1)
    cache.get_or_compute(["a", "b"], lambda: maps, pixels=PIXELS)
    again = cache.get_or_compute(["a", "b"], lambda: [], pixels=PIXELS)[0]
    assert torch.equal(again, maps[0])
    assert again.is_contiguous(memory_format=torch.channels_last)


def test_samples_beyond_the_limit_are_computed_every_time() -> None:
    """A sample is 4 (30 + 8) = 152 bytes: two fit into 400, the third does not."""
    cache, compute = MemoryCache(400e-9), Counter(batch=1)
    for key in ("a", "b", "c") * 3:
        cache.get_or_compute([key], compute, pixels=PIXELS)
    assert compute.calls == 2 + 3


def test_there_is_no_cache_without_a_backbone_or_memory_or_for_a_trained_backbone() -> None:
    backbone = build_backbone(BACKBONE.name, BACKBONE.options)
    assert make_memory_cache(None, 1) is None
    assert make_memory_cache(backbone, 0) is None
    assert make_memory_cache(backbone, 1) is not None
    backbone.is_frozen = False
    assert make_memory_cache(backbone, 1) is None


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("name", MODELS)
def test_segmenting_an_image_again_skips_the_backbone_and_changes_no_bit(name: str, mirror: bool) -> None:
    model, cache = _model(name), MemoryCache(1)
    image, window = torch.rand(3, 40, 70), Window(32, mirror=mirror, batch_size=3)
    expected = segment_image(model, image, window)
    seen = _count_passes(model)
    for _ in range(3):
        probabilities, guide = segment_image(model, image, window, cache=cache, name="a")
        assert torch.equal(probabilities, expected[0])
        assert guide is expected[1] is None or torch.equal(guide, expected[1])
    assert sum(seen) == 2 * 4 * (4 if mirror else 1)


def test_another_image_is_not_mistaken_for_the_first() -> None:
    model, cache, window = _model("segdino"), MemoryCache(1), Window(32, mirror=False)
    images = [torch.rand(3, 32, 32), torch.rand(3, 32, 32)]
    for name, image in zip("ab", images, strict=True):
        expected, _ = segment_image(model, image, window)
        assert torch.equal(segment_image(model, image, window, cache=cache, name=name)[0], expected)


def test_the_output_of_a_trained_guide_is_not_cached() -> None:
    model, cache, window = _model("guided"), MemoryCache(1), Window(32, mirror=False)
    image = torch.rand(3, 32, 32)
    _, before = segment_image(model, image, window, cache=cache, name="a")
    torch.nn.init.normal_(model.guide.book)  # type: ignore[union-attr, arg-type]
    _, after = segment_image(model, image, window, cache=cache, name="a")
    _, expected = segment_image(model, image, window)
    assert not torch.equal(before, after)  # type: ignore[arg-type]
    assert torch.equal(after, expected)  # type: ignore[arg-type]


@pytest.mark.parametrize(("augment", "passes"), [("none", {"cached": 6, "always": 18}), ("light", {"cached": 14})])
def test_training_does_not_depend_on_the_cache(
    augment: str, passes: dict[str, int], make_data: Callable[..., Path], tmp_path: Path
) -> None:
    """Three epochs of four training cases, of which the backbone sees 4 or, augmented, 12, and 2 validation cases."""
    data, ends = make_data(), {}
    for name in ("cached", "always"):
        trainer = _trainer(
            data, tmp_path / name, f"data.augment={augment}", f"train.dense_cache_gb={name == 'cached':d}"
        )
        seen = _count_passes(trainer.accelerator.unwrap_model(trainer.model))
        trainer.fit()
        ends[name] = trainer.model.state_dict(), [row["val_dice"] for row in RunFolder(tmp_path / name).history()]
        assert sum(seen) == passes.get(name, 18)
    assert ends["cached"][1] == ends["always"][1]
    for key, value in ends["cached"][0].items():
        assert torch.equal(value, ends["always"][0][key]), key


def _trainer(data: Path, run: Path, *overrides: str) -> Trainer:
    settings = ["data.image_size=32", "train.batch_size=2", "train.epochs=3", "train.lr=1e-3"]
    backbone = [f"model.backbone.options.{key}={value}" for key, value in BACKBONE.options.items()]
    own = ["model.backbone.name=random", "model.backbone.options={}", *backbone, "model.segmenter.options={width: 4}"]
    config = with_data_root(load_preset("kvasir-unet", [*settings, *own, *overrides]), data)
    # A user's process has one run.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    torch.manual_seed(0)
    manifest = load_manifest(data)
    return Trainer(
        build_model(config.model, num_classes=2),
        config,
        RunFolder(run),
        num_classes=2,
        training=manifest.select("train"),
        validation=manifest.select("val"),
        device="cpu",
    )
