"""Features on disk: shared between runs, one folder for each backbone."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from torch import Tensor, nn

from guidino_cli.config import load_preset
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.feature_cache.disk import (
    DiskCache,
    cached_bytes,
    default_cache_folder,
    open_disk_cache,
    pixel_digest,
)
from guidino_cli.engine.runs.folder import RunFolder, with_data_root
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import ConfigError, ResourceError
from guidino_cli.models import build_backbone, build_model
from guidino_cli.models.base import Backbone

CPU = torch.device("cpu")
TINY = {"hidden_size": 32, "depth": 2, "heads": 2}
# Four images of one pixel.
IMAGES = torch.arange(4.0).view(4, 1, 1, 1)


class Source:
    """Says of an image its value, in two levels of different grids, and counts the images that it is shown."""

    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.seen = factor, 0

    def of(self, images: Tensor) -> Callable[[], list[Tensor]]:
        def compute() -> list[Tensor]:
            self.seen += len(images)
            values = (images + 0.1) * self.factor
            return [values.expand(-1, 3, 2, 5), values.expand(-1, 4, 1, 1)]

        return compute


def _cache(tmp_path: Path, *, gigabytes: float = 1) -> DiskCache:
    folder = tmp_path / "features" / "one"
    folder.mkdir(parents=True, exist_ok=True)
    return DiskCache(folder, gigabytes=gigabytes, held_bytes=cached_bytes(folder.parent), device=CPU)


def _lookup(cache: DiskCache, source: Source, which: Sequence[int], *, run: str = "") -> list[Tensor]:
    images = IMAGES[list(which)]
    return cache.get_or_compute([(run, index) for index in which], source.of(images), pixels=images)


def _files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "features").rglob("*.safetensors"))


def _expected(which: Sequence[int]) -> Tensor:
    return (IMAGES[list(which)] + 0.1).half().float().expand(-1, 3, 2, 5)


def test_images_are_computed_once_and_cached_one_by_one(tmp_path: Path) -> None:
    cache, source = _cache(tmp_path), Source()
    _lookup(cache, source, [0, 1])
    _lookup(cache, source, [2, 3])
    assert torch.equal(_lookup(cache, source, [3, 0, 0])[0], _expected([3, 0, 0]))
    assert source.seen == 4


def test_another_run_computes_its_first_batch_to_compare_and_reads_the_others(tmp_path: Path) -> None:
    _lookup(_cache(tmp_path), Source(), [0, 1, 2, 3], run="a")
    cache, source = _cache(tmp_path), Source()
    found = [_lookup(cache, source, pair, run="b")[0] for pair in ([2, 1], [0, 3], [3, 2])]
    assert source.seen == 2
    assert torch.equal(torch.cat(found), _expected([2, 1, 0, 3, 3, 2]))


def test_computed_features_are_rounded_like_cached_ones(tmp_path: Path) -> None:
    """In half precision 0.1 is 0.0999755859375."""
    cache = _cache(tmp_path)
    before, after = (_lookup(cache, Source(), [0])[1] for _ in range(2))
    assert before.flatten().tolist() == after.flatten().tolist() == [0.0999755859375] * 4


def test_computed_and_cached_features_have_the_same_memory_format(tmp_path: Path) -> None:
    cache = _cache(tmp_path)
    for _ in range(2):
        assert _lookup(cache, Source(), [0, 1])[0].is_contiguous(memory_format=torch.channels_last)


def test_a_changed_image_under_the_same_key_is_computed(tmp_path: Path) -> None:
    first, source = _cache(tmp_path), Source()
    first.get_or_compute(["a"], source.of(IMAGES[:1]), pixels=IMAGES[:1])
    second = _cache(tmp_path)
    found = second.get_or_compute(["a"], source.of(IMAGES[1:2]), pixels=IMAGES[1:2])
    assert source.seen == 2
    assert torch.equal(found[0], _expected([1]))


def test_the_digest_depends_on_shape_and_precision() -> None:
    pixels = torch.arange(4.0)
    digests = [pixel_digest(item) for item in (pixels, pixels.view(2, 2), pixels.view(1, 4), pixels.double())]
    assert len(set(digests)) == 4
    assert pixel_digest(pixels.flip(0).flip(0)) == digests[0]


def test_a_partly_cached_batch_is_computed_and_the_rest_is_added(tmp_path: Path) -> None:
    cache, source = _cache(tmp_path), Source()
    _lookup(cache, source, [0])
    assert torch.equal(_lookup(cache, source, [0, 1])[0], _expected([0, 1]))
    _lookup(cache, source, [1])
    assert source.seen == 3
    assert len(_files(tmp_path)) == 2


def test_features_in_autocast_are_cached_separately(tmp_path: Path) -> None:
    cache, source = _cache(tmp_path), Source()
    _lookup(cache, source, [0])
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            _lookup(cache, source, [0])
    assert source.seen == 2
    assert {path.stem[32:] for path in _files(tmp_path)} == {"", "-bfloat16"}


@pytest.mark.parametrize("harm", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named_and_written_again(
    harm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lookup(_cache(tmp_path), Source(), [0])
    path = _files(tmp_path)[0]
    whole = path.read_bytes()
    flipped = whole[:-1] + bytes([whole[-1] ^ 1])
    path.write_bytes({"cut": whole[:-4], "flipped": flipped, "empty": b""}[harm])
    cache, source = _cache(tmp_path), Source()
    assert torch.equal(_lookup(cache, source, [0])[0], _expected([0]))
    assert source.seen == 1
    # The header is a dictionary, written in any order; the maps are what follows it.
    assert (len(path.read_bytes()), path.read_bytes()[-68:]) == (len(whole), whole[-68:])
    assert f"{path.name}: is damaged" in capsys.readouterr().err.replace("\n", "")


def test_cached_features_that_differ_from_the_backbone_are_refused(tmp_path: Path) -> None:
    _lookup(_cache(tmp_path), Source(), [0, 1])
    with pytest.raises(ConfigError, match=r"features/one: the cached features differ .* delete that folder"):
        _lookup(_cache(tmp_path), Source(factor=1.1), [0, 1])


def test_differences_by_rounding_are_accepted(tmp_path: Path) -> None:
    _lookup(_cache(tmp_path), Source(), [0, 1])
    assert torch.equal(_lookup(_cache(tmp_path), Source(factor=1.001), [0, 1])[0], _expected([0, 1]))


def test_beyond_the_limit_nothing_is_written_with_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _lookup(_cache(tmp_path), Source(), [0])
    size = cached_bytes(tmp_path / "features")
    cache, source = _cache(tmp_path, gigabytes=2.5 * size / 1e9), Source()
    for _ in range(2):
        for index in (1, 2, 3):
            _lookup(cache, source, [index])
    assert source.seen == 3 + 2
    assert cached_bytes(tmp_path / "features") == 2 * size
    assert capsys.readouterr().err.count("train.dense_cache_disk_gb") == 1


def test_an_unwritable_folder_ends_caching_but_not_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache, source = _cache(tmp_path), Source()
    (cache.folder / pixel_digest(IMAGES[0])[:2]).write_text("in the way")
    for _ in range(2):
        assert torch.equal(_lookup(cache, source, [0])[0], _expected([0]))
    assert source.seen == 2
    assert capsys.readouterr().err.count("no more features are cached") == 1


def test_values_beyond_half_precision_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"beyond 65,504.*train\.dense_cache=memory"):
        _lookup(_cache(tmp_path), Source(factor=1e6), [0, 1])


@pytest.fixture
def train(make_data: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[int, dict[str, Tensor], list[float]]]:
    """Train the light decoder for three epochs on four cases; images that the backbone saw, weights, Dice scores."""
    data = make_data()

    def run(name: str, *overrides: str) -> tuple[int, dict[str, Tensor], list[float]]:
        settings = ["data.image_size=32", "train.batch_size=2", "train.epochs=3", "train.lr=1e-3"]
        own = [
            "model.backbone={name: random, options: {hidden_size: 32, depth: 2, heads: 2}}",
            "model.segmenter.options={widths: [8, 4]}",
            f"train.dense_cache_folder={tmp_path / 'features'}",
        ]
        config = with_data_root(load_preset("kvasir-light2d", [*settings, *own, *overrides]), data)
        # A user's process has one run.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        torch.manual_seed(config.seed)
        manifest, seen = load_manifest(data), []
        model = build_model(config.model, num_classes=2)
        assert model.backbone is not None
        model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
        trainer = Trainer(
            model,
            config,
            RunFolder(tmp_path / name),
            num_classes=2,
            training=manifest.select("train"),
            validation=manifest.select("val"),
            device="cpu",
        )
        trainer.fit()
        scores = [row["val_dice"] for row in RunFolder(tmp_path / name).history()]
        return sum(seen), trainer.bare_model.state_dict(), scores

    return run


def test_the_next_run_uses_the_cache_and_has_the_same_result(
    train: Callable[..., tuple[int, dict[str, Tensor], list[float]]],
) -> None:
    """Four training and two validation images; the next run compares its first batch of two."""
    seen, weights, scores = train("cold", "train.dense_cache=disk")
    assert seen == 6
    again, same_weights, same_scores = train("warm", "train.dense_cache=disk")
    assert again == 2
    assert same_scores == scores
    assert all(torch.equal(weights[key], same_weights[key]) for key in weights)
    assert train("other", "train.dense_cache=disk", "seed=1")[0] == 2


def test_half_precision_features_hardly_change_a_run(
    train: Callable[..., tuple[int, dict[str, Tensor], list[float]]],
) -> None:
    _, weights, _ = train("disk", "train.dense_cache=disk")
    _, exact, _ = train("memory")
    head = next(key for key in weights if key.endswith("head.weight"))
    torch.testing.assert_close(weights[head], exact[head], atol=5e-3, rtol=0)
    assert not torch.equal(weights[head], exact[head])


def test_a_run_with_augmentation_says_that_only_validation_is_cached(
    train: Callable[..., tuple[int, dict[str, Tensor], list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two validation images once, and four training images three times."""
    assert train("light", "train.dense_cache=disk", "data.augment=light")[0] == 2 + 12
    said = " ".join(capsys.readouterr().err.split())
    assert "only those of validation images" in said
    assert "unless data.augment is none, mirror or dihedral and data.resize is stretch" in said


def test_other_files_in_the_folder_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "features" / "others").mkdir(parents=True)
    (tmp_path / "features" / "others" / "large.bin").write_bytes(bytes(1000))
    assert cached_bytes(tmp_path / "features") == 0


def test_unfinished_files_of_killed_runs_are_removed(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    cache = open_disk_cache(backbone, root=tmp_path / "features", gigabytes=1, device=CPU)
    assert cache is not None
    cache.get_or_compute(["a"], lambda: [torch.zeros(1, 3, 2, 2)], pixels=torch.zeros(1, 3, 4, 4))
    written = next((tmp_path / "features").rglob("*.safetensors"))
    old, young = (written.with_name(f"{name}.tmp") for name in ("old", "young"))
    for path in (old, young):
        path.write_text("half")
    two_hours_ago = time.time() - 7200
    os.utime(old, (two_hours_ago, two_hours_ago))
    open_disk_cache(backbone, root=tmp_path / "features", gigabytes=1, device=CPU)
    assert list((tmp_path / "features").rglob("*.tmp")) == [young]


@pytest.mark.parametrize("other", [{"seed": 1}, {"layers": [1]}, {"norm": False}, {"scale": 2.0}])
def test_another_backbone_or_other_layers_have_another_folder(other: dict[str, object], tmp_path: Path) -> None:
    folders = []
    for options in (TINY, TINY, {**TINY, **other}):
        cache = open_disk_cache(build_backbone("random", options), root=tmp_path, gigabytes=1, device=CPU)
        assert cache is not None
        folders.append(cache.folder)
    assert folders[0] == folders[1] != folders[2]
    assert {path.name for path in folders[0].iterdir()} == {"about.json"}


def test_a_backbone_of_any_kind_has_a_folder(tmp_path: Path) -> None:
    class Bare(Backbone):
        channels, stride, is_frozen = 4, 16, True

        def __init__(self, channels: int, sha256: str) -> None:
            super().__init__()
            self.level_channels, self.identity = [channels], {"weights": "mine", "sha256": sha256}
            self.layer = nn.Conv2d(3, channels, 1)

        def forward(self, image: Tensor) -> list[Tensor]:
            return [self.layer(image)]

    folders = set()
    for backbone in (Bare(4, "1"), Bare(4, "1"), Bare(8, "1"), Bare(4, "2")):
        cache = open_disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
        assert cache is not None
        folders.add(cache.folder)
    assert len(folders) == 3


def test_the_cache_does_not_depend_on_the_path_of_the_weights(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    before = open_disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
    backbone.identity = {**backbone.identity, "weights": "/elsewhere"}
    after = open_disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU)
    assert before is not None
    assert after is not None
    assert before.folder == after.folder


def test_there_is_no_cache_without_a_backbone_or_for_a_trained_one(tmp_path: Path) -> None:
    backbone = build_backbone("random", TINY)
    backbone.is_frozen = False
    assert open_disk_cache(None, root=tmp_path, gigabytes=1, device=CPU) is None
    assert open_disk_cache(backbone, root=tmp_path, gigabytes=1, device=CPU) is None
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_created_is_an_error_before_training(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/.*cannot be written .*train\.dense_cache_folder"):
        open_disk_cache(build_backbone("random", TINY), root=tmp_path / "file", gigabytes=1, device=CPU)


def test_the_default_folder_is_in_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "guidino" / "features"
