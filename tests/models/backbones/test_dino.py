"""DINO backbones: position of patches, input normalisation, freezing, layers, and strict loading."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones.dino import load_dino, random_dino
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.pretrained.loading import load_network

ABSENT = "guidino-tests/no-such-model"


def _random(**options: object) -> ViT:
    return random_dino(hidden_size=32, depth=3, heads=2, **options)  # type: ignore[arg-type]


def _dinov3(folder: Path, **options: object) -> ViT:
    return load_dino(family="dinov3", offline=True, weights=str(folder), **options)  # type: ignore[arg-type]


def _dinov2(folder: Path, **options: object) -> ViT:
    return load_dino(family="dinov2", offline=True, weights=str(folder), **options)  # type: ignore[arg-type]


def _only_patch_embedding(backbone: ViT) -> ViT:
    """Without attention between tokens, a cell depends on its own patch alone."""
    for block in backbone.vit.model.layer:
        torch.nn.init.zeros_(block.layer_scale1.lambda1)
    return backbone


# --- Where the patches are


@pytest.mark.parametrize(("i", "j"), [(0, 0), (2, 4), (3, 4)])
def test_without_attention_only_that_cell_changes(i: int, j: int) -> None:
    backbone, image = _only_patch_embedding(_random()), torch.full((1, 3, 64, 80), 0.5)
    changed = image.clone()
    changed[..., 16 * i : 16 * i + 16, 16 * j : 16 * j + 16] = 0.9
    difference = (backbone(changed)[0] - backbone(image)[0]).norm(dim=1)[0]
    assert [tuple(cell) for cell in (difference > 1e-5).nonzero().tolist()] == [(i, j)]


@pytest.mark.parametrize("registers", [0, 4])
def test_class_token_and_registers_are_removed(registers: int) -> None:
    backbone, image = _random(registers=registers), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        tokens = backbone.vit((image - backbone.normalizer.mean) / backbone.normalizer.std).last_hidden_state
    assert tokens.shape[1] == 1 + registers + 2 * 3
    expected = tokens[0, 1 + registers :].T.reshape(32, 2, 3)
    torch.testing.assert_close(backbone(image)[0][0], expected)


def test_registers_of_dinov2_are_removed(tmp_path: Path) -> None:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    config = Dinov2WithRegistersConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, patch_size=14, image_size=56, num_register_tokens=4
    )
    Dinov2WithRegistersModel(config).save_pretrained(tmp_path)
    backbone, image = _dinov2(tmp_path), torch.rand(1, 3, 28, 42)
    with torch.no_grad():
        tokens = backbone.vit((image - backbone.normalizer.mean) / backbone.normalizer.std).last_hidden_state
    torch.testing.assert_close(backbone(image)[0][0], tokens[0, 5:].T.reshape(32, 2, 3))


@pytest.mark.parametrize(("size", "grid"), [((33, 50), (3, 4)), ((5, 16), (1, 1)), ((64, 80), (4, 5))])
def test_odd_sizes_are_covered_completely(size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert _random()(torch.rand(1, 3, *size))[0].shape == (1, 32, *grid)


def test_a_scale_of_two_gives_four_times_the_cells() -> None:
    assert _random(scale=2.0)(torch.rand(1, 3, 32, 48))[0].shape == (1, 32, 4, 6)


# --- What the network sees


def test_images_are_normalised_by_imagenet_statistics() -> None:
    backbone, seen = _random(), []
    backbone.vit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    backbone(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 16, 16))
    backbone(torch.ones(1, 3, 16, 16))
    assert torch.equal(seen[0], torch.zeros(1, 3, 16, 16))
    expected = torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    torch.testing.assert_close(seen[1][0, :, 0, 0], expected)


def test_enlarging_keeps_the_range_of_the_image() -> None:
    backbone, seen = _random(), []
    normalizer = backbone.normalizer
    backbone.vit.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] * normalizer.std + normalizer.mean))
    backbone((torch.rand(1, 3, 23, 23) > 0.5).float())
    assert seen[0].min() >= -1e-6
    assert seen[0].max() <= 1 + 1e-6


# --- Frozen


def test_a_frozen_backbone_is_deterministic_in_a_model_in_training() -> None:
    """In train mode, DINOv3 rescales its position codes at random."""
    outer = torch.nn.ModuleList([_random()]).train()
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(outer[0](image)[0], outer[0](image)[0])


def test_a_frozen_backbone_has_no_gradients() -> None:
    backbone = _random()
    assert not backbone(torch.rand(1, 3, 32, 32, requires_grad=True))[0].requires_grad
    assert not any(weight.requires_grad for weight in backbone.parameters())


# --- Layers


@pytest.mark.parametrize("family", ["dinov3", "dinov2"])
def test_a_layer_is_its_hidden_state_after_the_final_norm(
    family: str, dinov3_folder: Path, dinov2_folder: Path
) -> None:
    load, folder = (_dinov3, dinov3_folder) if family == "dinov3" else (_dinov2, dinov2_folder)
    whole = load(folder)
    image = torch.rand(1, 3, 2 * whole.stride, 3 * whole.stride)
    norm = whole.vit.norm if family == "dinov3" else whole.vit.layernorm
    with torch.no_grad():
        states = whole.vit(
            (image - whole.normalizer.mean) / whole.normalizer.std, output_hidden_states=True
        ).hidden_states
    assert len(states) == 4
    for layer in (1, 2):
        expected = norm(states[layer])[0, whole.num_prefix_tokens :].T.reshape(32, 2, 3)
        torch.testing.assert_close(load(folder, layers=[layer])(image)[0][0], expected)
    maps = load(folder, layers=[1, 3])(image)
    torch.testing.assert_close(maps[0], load(folder, layers=[1])(image)[0])
    torch.testing.assert_close(maps[1], whole(image)[0])


def test_blocks_after_the_deepest_layer_are_removed() -> None:
    counts = [sum(p.numel() for p in _random(layers=layers).parameters()) for layers in ([1], [2], [1, 2], [3])]
    assert counts[0] < counts[1] == counts[2] < counts[3]


@pytest.mark.parametrize("layers", [2, "2", [2.0], [True], [3, 1]])
def test_layers_must_be_a_list_of_numbers_from_shallow_to_deep(layers: Any) -> None:
    with pytest.raises(ConfigError, match=r"expected a list of blocks such as \[3\]|from shallow to deep: \[1, 3\]"):
        build_backbone("random", {"hidden_size": 32, "depth": 3, "heads": 2, "layers": layers})


@pytest.mark.parametrize("layers", [[0], [4], [1, 4], [-1]])
def test_a_layer_that_does_not_exist_is_refused(layers: list[int]) -> None:
    with pytest.raises(ConfigError, match=r"blocks 1\.\.3"):
        build_backbone("random", {"hidden_size": 32, "depth": 3, "heads": 2, "layers": layers})


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="positive factor"):
        build_backbone("random", {"hidden_size": 32, "depth": 1, "heads": 2, "scale": 0})


# --- Identity


def test_random_backbones_are_equal_for_equal_seeds_only() -> None:
    hashes = [_random(seed=seed).identity["sha256"] for seed in (0, 0, 1)]
    assert hashes[0] == hashes[1] != hashes[2]


def test_building_a_random_backbone_keeps_the_global_random_state() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    _random()
    assert torch.equal(torch.rand(1), expected)


def test_the_identity_depends_on_the_weights_and_not_on_the_folder(dinov3_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(dinov3_folder, tmp_path / "elsewhere")
    assert _dinov3(dinov3_folder).identity["sha256"] == _dinov3(tmp_path / "elsewhere").identity["sha256"]


# --- Loading


def test_a_local_dinov3_folder_gives_the_weights_that_were_saved(dinov3_folder: Path) -> None:
    saved = load_file(dinov3_folder / "model.safetensors")
    loaded = _dinov3(dinov3_folder).vit.state_dict()
    patch = "embeddings.patch_embeddings.weight"
    assert torch.equal(loaded[patch], saved[patch])


@pytest.mark.parametrize("family", ["dinov3", "dinov2"])
def test_a_local_folder_gives_the_maps_of_the_model_that_was_saved(
    family: str, dinov3_folder: Path, dinov2_folder: Path
) -> None:
    from transformers import Dinov2Model, DINOv3ViTModel

    load, folder, kind = (
        (_dinov3, dinov3_folder, DINOv3ViTModel) if family == "dinov3" else (_dinov2, dinov2_folder, Dinov2Model)
    )
    backbone, image = load(folder), torch.rand(1, 3, 112, 112)
    saved = kind.from_pretrained(folder).eval()
    with torch.no_grad():
        tokens: Tensor = saved((image - backbone.normalizer.mean) / backbone.normalizer.std).last_hidden_state
    cells = 112 // backbone.stride
    expected = tokens[0, backbone.num_prefix_tokens :].T.reshape(32, cells, cells)
    torch.testing.assert_close(backbone(image)[0][0], expected)


def test_a_folder_saved_in_half_precision_is_loaded_in_single(dinov3_folder: Path, tmp_path: Path) -> None:
    folder = _changed(dinov3_folder, tmp_path, lambda tensors: {k: v.bfloat16() for k, v in tensors.items()})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    assert _dinov3(folder)(torch.rand(1, 3, 32, 32))[0].dtype == torch.float32


def test_a_folder_in_several_shards_is_loaded_whole(dinov3_folder: Path, tmp_path: Path) -> None:
    """The ViT-7B comes in shards."""
    from transformers import DINOv3ViTModel

    DINOv3ViTModel.from_pretrained(dinov3_folder).save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    assert _dinov3(tmp_path).identity["sha256"] == _dinov3(dinov3_folder).identity["sha256"]


def test_a_missing_mask_token_is_accepted_with_a_stable_identity(dinov3_folder: Path, tmp_path: Path) -> None:
    folder = _changed(
        dinov3_folder, tmp_path, lambda tensors: {k: v for k, v in tensors.items() if "mask_token" not in k}
    )
    assert _dinov3(folder).identity["sha256"] == _dinov3(folder).identity["sha256"]


def test_a_missing_tensor_is_refused_by_name(dinov3_folder: Path, tmp_path: Path) -> None:
    folder = _changed(dinov3_folder, tmp_path, lambda tensors: {k: v for k, v in tensors.items() if k != "norm.weight"})
    with pytest.raises(WeightsError, match=r"1 missing \(norm\.weight\)"):
        _dinov3(folder)


def test_an_unexpected_tensor_is_refused_by_name(dinov3_folder: Path, tmp_path: Path) -> None:
    folder = _changed(dinov3_folder, tmp_path, lambda tensors: {**tensors, "head.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"1 unexpected \(head\.weight\)"):
        _dinov3(folder)


def test_a_tensor_of_another_shape_is_refused(dinov3_folder: Path, tmp_path: Path) -> None:
    folder = _changed(dinov3_folder, tmp_path, lambda tensors: {**tensors, "norm.weight": torch.zeros(31)})
    with pytest.raises(WeightsError, match=r"1 of another shape \(norm\.weight"):
        _dinov3(folder)


def test_a_damaged_file_is_refused(dinov3_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(dinov3_folder, tmp_path / "copy")
    whole = (tmp_path / "copy" / "model.safetensors").read_bytes()
    (tmp_path / "copy" / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="truncated"):
        _dinov3(tmp_path / "copy")


def test_weights_of_another_family_are_refused(dinov2_folder: Path, dinov3_folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"model_type 'dinov2'.*'dinov3'"):
        _dinov3(dinov2_folder)
    with pytest.raises(WeightsError, match=r"model_type 'dinov3_vit'.*'dinov2'"):
        _dinov2(dinov3_folder)


@pytest.mark.parametrize("config", ["not json", "[1]"])
def test_a_folder_without_a_readable_config_is_refused(config: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(WeightsError, match=r"config\.json"):
        _dinov3(tmp_path)


@pytest.mark.parametrize("source", ["/no/such/folder", "./no/such/folder", "no-such-folder", "a/b/c"])
def test_a_missing_folder_is_refused_with_hints(source: str) -> None:
    with pytest.raises(WeightsError, match="no such folder") as caught:
        load_dino(family="dinov3", offline=True, weights=source)
    _has_ways_out(caught.value)


def test_an_uncached_hub_id_offline_is_refused_with_hints() -> None:
    with pytest.raises(WeightsError, match="not in the local cache, and offline") as caught:
        load_dino(family="dinov3", offline=True, weights=ABSENT)
    _has_ways_out(caught.value)


def test_offline_mode_of_the_environment_is_respected() -> None:
    with pytest.raises(WeightsError, match="offline"):
        load_network(ABSENT, family="dinov3", offline=False)


def test_gated_weights_say_where_to_accept_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def download(*_: object, local_files_only: bool = False, **__: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        raise GatedRepoError("gated", response=SimpleNamespace(headers={}, request=None))  # type: ignore[arg-type]

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match=f"https://huggingface.co/{ABSENT}.*hf auth login") as caught:
        load_dino(family="dinov3", offline=False, weights=ABSENT)
    _has_ways_out(caught.value)


def test_a_download_without_all_shards_is_incomplete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model-1.safetensors").touch()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(WeightsError, match="not in the local cache"):
        load_dino(family="dinov3", offline=True, weights=ABSENT)


def test_an_unreachable_hub_is_reported_with_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(WeightsError, match="cannot be reached") as caught:
        load_dino(family="dinov3", offline=False, weights=ABSENT)
    _has_ways_out(caught.value)


def _changed(source: Path, tmp_path: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
    folder = tmp_path / "changed"
    shutil.copytree(source, folder)
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def _has_ways_out(error: WeightsError) -> None:
    assert "guidino weights download embedded" in str(error)
    assert "model.backbone.options.weights=" in str(error)
    assert "\n" not in str(error)
    assert error.exit_code == 4
