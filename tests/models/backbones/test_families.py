"""Contract of all backbone families: position of cells, any image size, frozen weights, normalisation."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from guidino_cli.engine.feature_cache.disk import _description
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone

NARROW: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64,
    "initializer_range": 0.2,
}  # fmt: skip
V2 = {**{k: v for k, v in NARROW.items() if k != "intermediate_size"}, "patch_size": 14, "image_size": 56}
V16 = {**NARROW, "patch_size": 16, "image_size": 64}
BEIT = {**V16, "use_relative_position_bias": True, "use_mean_pooling": False}
CONVNEXT = {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "layer_scale_init_value": 1.0}


@dataclass(frozen=True)
class Family:
    backbone: str
    network: str
    settings: dict[str, Any]
    stride: int
    depth: int = 3


FAMILIES = {
    "dinov3": Family("dinov3", "DINOv3ViT", {**NARROW, "num_register_tokens": 4}, 16),
    "dinov3 gated": Family("dinov3", "DINOv3ViT", {**NARROW, "use_gated_mlp": True, "hidden_act": "silu"}, 16),
    "dinov3 convnext": Family("dinov3", "DINOv3ConvNext", CONVNEXT, 32, depth=4),
    "dinov2": Family("dinov2", "Dinov2", V2, 14),
    "dinov2 registers": Family("dinov2", "Dinov2WithRegisters", {**V2, "num_register_tokens": 4}, 14),
    "vit": Family("vit", "ViT", V16, 16),
    "deit": Family("vit", "DeiT", V16, 16),
    "beit": Family("vit", "Beit", BEIT, 16),
    "vit msn": Family("vit", "ViTMSN", V16, 16),
    "clip": Family("vit", "CLIPVision", V16, 16),
    "siglip": Family("vit", "SiglipVision", V16, 16),
}
names = pytest.mark.parametrize("name", FAMILIES)
Load = Callable[..., Any]


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of random weights a family, as transformers saves it."""
    import transformers

    saved = {}
    for name, family in FAMILIES.items():
        torch.manual_seed(0)
        config = getattr(transformers, f"{family.network}Config")(**family.settings)
        saved[name] = tmp_path_factory.mktemp(name.replace(" ", "-"))
        getattr(transformers, f"{family.network}Model")(config).save_pretrained(saved[name])
        if family.backbone == "vit":
            half = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
            (saved[name] / "preprocessor_config.json").write_text(json.dumps(half))
    return saved


@pytest.fixture
def load(folders: dict[str, Path]) -> Load:
    def call(name: str, **options: object) -> Backbone:
        return build_backbone(FAMILIES[name].backbone, {"weights": str(folders[name]), **options}, offline=True)

    return call


@names
@pytest.mark.parametrize(("stored", "used"), [("bfloat16", "float32"), ("float32", "bfloat16"), ("float16", "float32")])
def test_weights_left_as_stored_equal_the_others_once_they_are_cast(
    name: str, stored: str, used: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    """Buffers that no file holds, such as the frequencies of DINOv3's positions, are the same without a cast."""
    dtype = getattr(torch, stored)
    shutil.copytree(folders[name], tmp_path / "stored")
    file = tmp_path / "stored" / "model.safetensors"
    save_file({key: value.to(dtype) for key, value in load_file(file).items()}, file, {"format": "pt"})
    options = {"weights": str(tmp_path / "stored"), "dtype": used}
    usual, left = (
        build_backbone(FAMILIES[name].backbone, options, offline=True, keep_mapped=mapped) for mapped in (False, True)
    )
    assert (usual.pending_dtype, left.pending_dtype) == (None, getattr(torch, used))
    assert {parameter.dtype for parameter in left.parameters()} == {dtype}
    assert left.identity == usual.identity
    assert _description(left) == _description(usual)
    for parameter in left.parameters():
        parameter.data = parameter.data.to(getattr(torch, used))
    for kind in ("named_parameters", "named_buffers"):
        expected, found = dict(getattr(usual, kind)()), dict(getattr(left, kind)())
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert value.dtype == found[key].dtype, key
            assert torch.equal(value, found[key]), key


def test_weights_of_two_precisions_are_cast_at_once(folders: dict[str, Path], tmp_path: Path) -> None:
    """One cast after another would round them twice."""
    shutil.copytree(folders["dinov3"], tmp_path / "mixed")
    file = tmp_path / "mixed" / "model.safetensors"
    tensors = load_file(file)
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first].bfloat16()}, file, {"format": "pt"})
    backbone = build_backbone("dinov3", {"weights": str(tmp_path / "mixed")}, offline=True, keep_mapped=True)
    assert backbone.pending_dtype is None
    assert {parameter.dtype for parameter in backbone.parameters()} == {torch.float32}


@names
@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 3), (1, 2), (2, 4)])
def test_cell_i_j_is_where_pixel_si_sj_is(name: str, i: int, j: int, load: Load) -> None:
    backbone, s = load(name), FAMILIES[name].stride
    assert backbone.stride == s
    image = torch.full((1, 3, 3 * s, 5 * s), 0.3)
    changed = image.clone()
    torch.manual_seed(1)
    changed[..., s * i : s * (i + 1), s * j : s * (j + 1)] = torch.rand(3, s, s)
    difference = (backbone(changed)[0] - backbone(image)[0]).norm(dim=1)[0]
    assert difference.shape == (3, 5)
    assert divmod(int(difference.argmax()), 5) == (i, j)


@names
def test_odd_sizes_are_covered_to_the_last_pixel(name: str, load: Load) -> None:
    backbone, s = load(name), FAMILIES[name].stride
    image = torch.full((1, 3, 2 * s + 3, 3 * s + 5), 0.3)
    changed = image.clone()
    changed[..., -3:, -3:] = 1.0
    difference = (backbone(changed)[0] - backbone(image)[0]).norm(dim=1)[0]
    assert difference.shape == (3, 4)
    assert divmod(int(difference.argmax()), 4) == (2, 3)


@names
def test_an_image_smaller_than_a_cell_has_one_cell(name: str, load: Load) -> None:
    assert load(name)(torch.rand(2, 3, 5, 7))[0].shape[-2:] == (1, 1)


@names
def test_grey_images_equal_three_equal_channels(name: str, load: Load) -> None:
    backbone, grey = load(name), torch.rand(1, 1, 64, 64)
    assert torch.equal(backbone(grey)[0], backbone(grey.expand(-1, 3, -1, -1))[0])


@names
@pytest.mark.parametrize("channels", [2, 4, 5])
def test_other_numbers_of_channels_are_refused(name: str, channels: int, load: Load) -> None:
    with pytest.raises(DataError, match=rf"images have {channels} channels.*1 \(grey\) or 3"):
        load(name)(torch.rand(1, channels, 32, 32))


@names
def test_frozen_weights_are_unchanged_by_a_training_step(name: str, load: Load) -> None:
    backbone = load(name).train()
    head = nn.Conv2d(backbone.channels, 2, 1)
    before = copy.deepcopy(backbone.state_dict())
    optimizer = torch.optim.AdamW([*backbone.parameters(), *head.parameters()], lr=0.1, weight_decay=0.1)
    head(backbone(torch.rand(2, 3, 64, 64))[-1]).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any(module.training for module in backbone.modules())


@names
@pytest.mark.parametrize("norm", [True, False])
def test_every_trainable_weight_gets_a_gradient(name: str, norm: bool, load: Load) -> None:
    """One that gets none stops a training by several processes."""
    backbone = load(name, norm=norm)
    backbone.unfreeze()
    backbone.train()(torch.rand(2, 3, 64, 64))[-1].square().sum().backward()
    idle = [key for key, weight in backbone.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle
    assert sum(weight.requires_grad for weight in backbone.parameters()) > 10


@names
def test_level_channels_match_the_maps(name: str, load: Load) -> None:
    backbone = load(name, layers=[1, 2, FAMILIES[name].depth])
    maps = backbone(torch.rand(1, 3, 64, 64))
    assert backbone.level_channels == [item.shape[1] for item in maps]
    assert backbone.channels == maps[-1].shape[1]


@names
def test_without_the_norm_maps_are_raw_block_outputs(name: str, load: Load) -> None:
    """The final LayerNorm of fresh weights makes every token's mean 0 and variance 1."""
    image = torch.rand(1, 3, 64, 64)
    normed, raw = load(name)(image)[0], load(name, norm=False)(image)[0]
    expected = nn.functional.layer_norm(raw.movedim(1, -1), (raw.shape[1],)).movedim(-1, 1)
    torch.testing.assert_close(normed, expected, rtol=1e-3, atol=1e-3)
    assert not torch.allclose(raw, normed, atol=0.01)


@names
def test_a_bfloat16_backbone_returns_maps_in_the_dtype_of_the_image(name: str, load: Load) -> None:
    backbone, image = load(name, dtype="bfloat16"), torch.rand(1, 3, 64, 64)
    assert {weight.dtype for weight in backbone.parameters()} == {torch.bfloat16}
    found, exact = backbone(image)[0], load(name)(image)[0]
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found.flatten(), exact.flatten(), dim=0) > 0.99


def test_the_stages_of_a_convnext_have_strides_4_to_32(load: Load) -> None:
    backbone = load("dinov3 convnext", layers=[1, 2, 3, 4])
    maps = backbone(torch.rand(1, 3, 64, 96))
    assert [tuple(item.shape[1:]) for item in maps] == [(8, 16, 24), (12, 8, 12), (16, 4, 6), (24, 2, 3)]


def test_the_third_stage_of_a_convnext_has_stride_16_without_the_fourth(load: Load) -> None:
    backbone = load("dinov3 convnext", layers=[3])
    assert backbone.stride == 16
    assert backbone(torch.rand(1, 3, 48, 80))[0].shape == (1, 16, 3, 5)
    assert len(backbone.convnext.model.stages) == 3


@pytest.mark.parametrize("name", ["dinov3", "dinov3 convnext", "dinov2", "dinov2 registers"])
def test_dino_folders_without_statistics_have_those_of_imagenet(name: str, load: Load) -> None:
    assert load(name).normalizer.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize("name", ["vit", "deit", "beit", "vit msn", "clip", "siglip"])
def test_other_vits_without_statistics_are_refused(
    name: str, folders: dict[str, Path], tmp_path: Path, load: Load
) -> None:
    (folders[name] / "preprocessor_config.json").rename(tmp_path / "kept.json")
    try:
        with pytest.raises(WeightsError, match=r"expected preprocessor_config\.json .*weights import .* --mean 0\.485"):
            load(name)
    finally:
        (tmp_path / "kept.json").rename(folders[name] / "preprocessor_config.json")


@pytest.mark.parametrize(
    ("content", "mean", "std"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6]),
        ({"do_normalize": False}, [0, 0, 0], [1, 1, 1]),
        # 2 x - 1 written as (x 255 / 127.5 - 1) / 1.
        ({"rescale_factor": 1 / 127.5, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}, [0.5] * 3, [0.5] * 3),
        ({"do_rescale": False, "image_mean": [51] * 3, "image_std": [102] * 3}, [0.2] * 3, [0.4] * 3),
    ],
)
def test_statistics_in_the_folder_take_precedence(
    content: dict[str, Any], mean: list[float], std: list[float], load: Load, folders: dict[str, Path]
) -> None:
    path = folders["vit msn"] / "preprocessor_config.json"
    before = path.read_text()
    path.write_text(json.dumps(content))
    try:
        normalizer = load("vit msn").normalizer
    finally:
        path.write_text(before)
    torch.testing.assert_close(normalizer.mean.flatten(), torch.tensor(mean, dtype=torch.float32))
    torch.testing.assert_close(normalizer.std.flatten(), torch.tensor(std, dtype=torch.float32))


def test_a_size_selects_official_weights() -> None:
    with pytest.raises(WeightsError, match="facebook/dinov3-convnext-tiny-pretrain-lvd1689m: not in the local cache"):
        build_backbone("dinov3", {"size": "convnext_tiny"}, offline=True)


def test_an_unknown_size_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown size of dinov3 'bas'; did you mean 'base'\?.*7b"):
        build_backbone("dinov3", {"size": "bas"}, offline=True)


def test_size_and_weights_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="both given; leave one out"):
        build_backbone("dinov3", {"size": "base", "weights": "a/b"}, offline=True)


def test_an_unknown_precision_is_refused(folders: dict[str, Path]) -> None:
    with pytest.raises((ConfigError, WeightsError), match=r"float16.*expected auto, float32 or bfloat16"):
        build_backbone("dinov3", {"weights": str(folders["dinov3"]), "dtype": "float16"}, offline=True)


def test_a_vit_loaded_as_dino_is_refused_with_the_right_backbone(folders: dict[str, Path]) -> None:
    with pytest.raises(WeightsError, match=r"model_type 'vit'.*backbone 'vit' reads them"):
        build_backbone("dinov3", {"weights": str(folders["vit"])}, offline=True)
