"""Backbone `sam2`: Hiera's maps with adapters, weights in Hugging Face layout, and its errors."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Sam2Config, Sam2HieraDetModel, Sam2VisionConfig, Sam2VisionModel

from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models.backbones.sam2 import _SIZES, SAM2, hiera_config, load_sam2

TINY: dict[str, Any] = {"size": "tiny", "random": True, "widths": [8, 16, 32, 64], "blocks": [1, 2, 3, 1]}


def _load(**options: Any) -> SAM2:
    return load_sam2(family="sam2", offline=True, **options)


def _tiny_folder(folder: Path, *, whole: bool = False) -> Path:
    """A folder as the hub has it: the vision model, or a whole SAM 2, of which the encoder is a part."""
    torch.manual_seed(0)
    hiera = hiera_config("tiny", widths=TINY["widths"], blocks=TINY["blocks"])
    config = Sam2VisionConfig(backbone_config=hiera, backbone_channel_list=[64, 32, 16, 8])
    Sam2VisionModel(config).save_pretrained(folder)
    if whole:
        tensors = {f"vision_encoder.{name}": value for name, value in load_file(folder / "model.safetensors").items()}
        save_file({**tensors, "no_memory_embedding": torch.zeros(1, 1, 4)}, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(Sam2Config(vision_config=config).to_dict()))
    return folder


def test_maps_equal_those_of_the_transformers_encoder() -> None:
    torch.manual_seed(0)
    backbone, image = _load(**TINY, adapters=0), torch.rand(2, 3, 64, 96)
    # Fresh position codes are zero.
    for code in (backbone.hiera.pos_embed, backbone.hiera.pos_embed_window):
        torch.nn.init.normal_(code)
    with torch.no_grad():
        expected = backbone.hiera(pixel_values=backbone.normalizer(image)).intermediate_hidden_states
        for found, expected_map in zip(backbone(image), expected, strict=True):
            torch.testing.assert_close(found, expected_map.permute(0, 3, 1, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size_give_four_grids_that_cover_them(channels: int) -> None:
    backbone = _load(**TINY)
    maps = backbone(torch.rand(1, channels, 33, 50))
    assert [item.shape[1:] for item in maps] == [(8, 16, 16), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    assert (backbone.level_channels, backbone.channels, backbone.stride) == ([8, 16, 32, 64], 64, 32)


def test_an_adapter_adds_a_bottleneck_to_the_input_of_a_block() -> None:
    """With its second layer zero except for a bias of 3, it adds GELU(3) to every cell, before the first block too."""
    backbone, plain = _load(**TINY), _load(**TINY, adapters=0)
    with torch.no_grad():
        for adapter in backbone.adapters:
            adapter.bottleneck[2].weight.zero_()
            adapter.bottleneck[2].bias.zero_()
        image = torch.rand(1, 3, 32, 32)
        for found, expected_map in zip(backbone(image), plain(image), strict=True):
            torch.testing.assert_close(found, expected_map)
        x = torch.randn(1, 2, 2, 8)
        backbone.adapters[0].bottleneck[2].bias.fill_(3)
        torch.testing.assert_close(backbone.adapters[0](x), x + torch.nn.functional.gelu(torch.tensor(3.0)))


def test_all_adapters_are_trained_and_nothing_else() -> None:
    backbone = _load(**TINY).train()
    torch.stack([item.square().mean() for item in backbone(torch.rand(1, 3, 32, 32))]).sum().backward()
    learned = {name for name, weight in backbone.named_parameters() if weight.grad is not None}
    assert learned == {name for name, _ in backbone.named_parameters() if name.startswith("adapters.")}
    assert (backbone.is_frozen, backbone.is_adapted) == (False, True)
    assert not any(module.training for module in backbone.hiera.modules())


def test_without_adapters_it_is_frozen() -> None:
    backbone = _load(**TINY, adapters=0).train()
    assert backbone.is_frozen
    assert not any(item.requires_grad for item in backbone(torch.rand(1, 3, 32, 32)))


def test_the_sizes_are_the_published_ones() -> None:
    """Whole, SAM 2 has 38.9, 46, 80.8 and 224.4 million, of which some 12 are not the encoder's.

    Adapters by hand: 65 d + 32 before a block of d channels, which for the first of a stage are those of the last.
    """
    millions = {}
    for name in _SIZES:
        with torch.device("meta"):
            hiera = Sam2HieraDetModel(hiera_config(name, widths=None, blocks=None))
            millions[name] = round(sum(weight.numel() for weight in hiera.parameters()) / 1e6)
            large = SAM2(hiera, identity={})
    assert millions == {"tiny": 27, "small": 34, "base-plus": 69, "large": 212}
    widths = [144] * 3 + [288] * 6 + [576] * 36 + [1152] * 3
    assert (
        sum(weight.numel() for weight in large.adapters.parameters()) == sum(65 * d + 32 for d in widths) == 1_714_416
    )


@pytest.mark.parametrize("whole", [False, True])
def test_a_hugging_face_folder_is_loaded(whole: bool, tmp_path: Path) -> None:
    folder = _tiny_folder(tmp_path, whole=whole)
    wanted = Sam2VisionModel(
        Sam2VisionConfig(
            backbone_config=hiera_config("tiny", widths=TINY["widths"], blocks=TINY["blocks"]),
            backbone_channel_list=[64, 32, 16, 8],
        )
    )
    tensors = {k.removeprefix("vision_encoder."): v for k, v in load_file(folder / "model.safetensors").items()}
    wanted.load_state_dict({k: v for k, v in tensors.items() if k != "no_memory_embedding"})
    backbone = _load(weights=str(folder))
    for name, value in wanted.backbone.state_dict().items():
        assert torch.equal(backbone.hiera.state_dict()[name], value)
    assert backbone.identity["weights"] == str(folder)
    assert backbone.identity["sha256"] == _load(weights=str(folder / "model.safetensors")).identity["sha256"]


def test_a_missing_tensor_is_refused_by_name(tmp_path: Path) -> None:
    folder = _tiny_folder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["backbone.blocks.2.attn.qkv.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing \(blocks\.2\.attn\.qkv\.weight\)"):
        _load(weights=str(folder))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "dinov2"}')
    with pytest.raises(WeightsError, match="weights of model_type 'dinov2', expected SAM 2"):
        _load(weights=str(tmp_path))


def test_a_file_without_a_configuration_is_refused_with_a_hint(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"config\.json: cannot be read .*expected a folder in Hugging Face layout"):
        _load(weights=str(tmp_path / "model.safetensors"))


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="size of sam2 'huge'"):
        _load(size="huge", random=True)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"adapters": -1}, "adapters is -1"),
        ({"weights": "x", "random": True}, "leave size and random out"),
        ({"widths": [8, 16, 32, 64]}, "random=true only"),
        ({**TINY, "blocks": [1, 1]}, "expected four each"),
        ({**TINY, "widths": [8, 15, 32, 64]}, r"widths divisible by \[1, 2, 4, 8\]"),
    ],
)
def test_invalid_options_are_refused(options: dict, line: str) -> None:
    with pytest.raises(ValueError, match=line):
        _load(**options)


def test_full_finetuning_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.finetune: backbone sam2 trains its adapters alone"):
        _load(**TINY).unfreeze()


def test_hints_for_missing_weights_name_no_backbone_with_other_levels() -> None:
    with pytest.raises(WeightsError, match=r"weights=/path\)$"):
        load_sam2(family="sam2", offline=True, weights="nobody/has-this")
