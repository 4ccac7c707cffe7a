"""Open ViTs besides DINOv2 and DINOv3: files in the layout of each repository give transformers' own features."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from guidino_cli.commands.weights import resolve_source
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.catalogue import KNOWN_WEIGHTS, infer_licence
from guidino_cli.models.pretrained.loading import load_network

SIZES: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
# As wide as DINO's heads allow: their number is read off the width.
DINO: dict[str, Any] = {"hidden_size": 192, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 768}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
KNOWN = {item.name: item for item in KNOWN_WEIGHTS}


def _random(network: Any) -> Any:
    """Every tensor random: zeros and ones would hide a swap."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def _vit(tmp_path: Path) -> Any:
    from transformers import ViTConfig, ViTModel

    network = _random(ViTModel(ViTConfig(**SIZES, image_size=64)))
    network.save_pretrained(tmp_path)
    return network


def _siglip(tmp_path: Path) -> Any:
    """As published: with the text encoder, whose vocabulary alone tells SigLIP 2 from SigLIP."""
    from transformers import SiglipConfig, SiglipModel

    text = {**SIZES, "vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 1, "projection_size": 32}
    network = _random(SiglipModel(SiglipConfig(vision_config={**SIZES, "image_size": 64}, text_config=text)))
    network.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert {name.split(".")[0] for name in names} == {"vision_model", "text_model", "logit_scale", "logit_bias"}
    return network.vision_model


def _dinov2_registers(tmp_path: Path) -> Any:
    from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel

    settings = {name: value for name, value in SIZES.items() if name != "intermediate_size"}
    config = Dinov2WithRegistersConfig(**settings, image_size=64, patch_size=16, num_register_tokens=4)
    network = _random(Dinov2WithRegistersModel(config))
    network.save_pretrained(tmp_path)
    return network


LAYOUTS: dict[str, tuple[str, Callable[[Path], Any], int]] = {
    "vit": ("vit", _vit, 1),
    "siglip": ("vit", _siglip, 0),
    "dinov2 with registers": ("dinov2", _dinov2_registers, 5),
}


def _load(backbone: str, weights: Path, **options: object) -> Backbone:
    return build_backbone(backbone, {"weights": str(weights), **options}, offline=True)


def test_rad_dino_without_its_preprocessor_is_refused_instead_of_given_imagenets(tmp_path: Path) -> None:
    """Chest X-rays have a mean of their own, which no tensor shows."""
    folder = tmp_path / "rad-dino"
    _dinov2_registers(folder)
    with pytest.raises(WeightsError, match="rad-dino: nothing states the mean and standard deviation"):
        _load("dinov2", folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(HALF))
    backbone: Any = _load("dinov2", folder)
    assert backbone.normalizer.mean.flatten().tolist() == [0.5] * 3


@pytest.mark.parametrize("size_hw", [(64, 64), (96, 48), (32, 80)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_features_are_those_of_transformers_at_any_size(layout: str, size_hw: tuple[int, int], tmp_path: Path) -> None:
    family, save, prefix = LAYOUTS[layout]
    network = save(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HALF))
    image = torch.rand(2, 3, *size_hw, generator=torch.Generator().manual_seed(1))
    more = {"interpolate_pos_encoding": True} if family == "vit" else {}
    with torch.no_grad():
        tokens = network((image - 0.5) / 0.5, **more).last_hidden_state
    h, w = size_hw[0] // 16, size_hw[1] // 16
    assert tokens.shape == (2, prefix + h * w, 32)
    expected = tokens[:, prefix:].reshape(2, h, w, 32).permute(0, 3, 1, 2)
    backbone = _load(family, tmp_path)
    torch.testing.assert_close(backbone(image)[0], expected, rtol=1e-5, atol=1e-5)
    assert backbone.has_class_token == (prefix > 0)


def _dino_as_timm(network: Any) -> dict[str, Tensor]:
    """timm's and Meta's names, which are the same, of the tensors of a ViT."""
    embeddings = network.embeddings
    found = {
        "cls_token": embeddings.cls_token,
        "pos_embed": embeddings.position_embeddings,
        "patch_embed.proj.weight": embeddings.patch_embeddings.projection.weight,
        "patch_embed.proj.bias": embeddings.patch_embeddings.projection.bias,
        "norm.weight": network.layernorm.weight,
        "norm.bias": network.layernorm.bias,
    }
    parts = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attn.proj": "attention.o_proj"}
    parts |= {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    for number, block in enumerate(network.layers):
        for part in ("weight", "bias"):
            for theirs, own in parts.items():
                found[f"blocks.{number}.{theirs}.{part}"] = getattr(block.get_submodule(own), part)
            projections = [getattr(block.attention, f"{letter}_proj") for letter in "qkv"]
            found[f"blocks.{number}.attn.qkv.{part}"] = torch.cat([getattr(item, part) for item in projections])
    return {name: value.detach().clone() for name, value in found.items()}


@pytest.fixture
def dino(tmp_path: Path) -> tuple[Any, Path]:
    """A small DINO, and a folder with it as timm's repositories are."""
    from transformers import ViTConfig, ViTModel

    network = _random(ViTModel(ViTConfig(**DINO, patch_size=8, image_size=64, layer_norm_eps=1e-6)))
    folder = tmp_path / "vit_small_patch8_224.dino"
    folder.mkdir()
    save_file(_dino_as_timm(network), folder / "model.safetensors")
    cfg = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    (folder / "config.json").write_text(json.dumps({"architecture": "vit_small_patch8_224", "pretrained_cfg": cfg}))
    return network, folder


@pytest.mark.parametrize("size_hw", [(64, 64), (40, 72)])
def test_a_dino_of_timm_gives_the_features_of_transformers(size_hw: tuple[int, int], dino: tuple[Any, Path]) -> None:
    network, folder = dino
    backbone = _load("vit", folder)
    image = torch.rand(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        tokens = network((image - mean) / std, interpolate_pos_encoding=True).last_hidden_state[:, 1:]
    expected = tokens.reshape(1, size_hw[0] // 8, size_hw[1] // 8, 192).permute(0, 3, 1, 2)
    torch.testing.assert_close(backbone(image)[0], expected, rtol=1e-5, atol=1e-5)
    assert backbone.stride == 8
    assert backbone.identity["licence"] == "Apache-2.0"


def test_a_file_of_meta_alone_asks_for_mean_and_std(dino: tuple[Any, Path], tmp_path: Path) -> None:
    path = tmp_path / "dino_deitsmall8_pretrain.pth"
    torch.save(load_file(dino[1] / "model.safetensors"), path)
    with pytest.raises(WeightsError, match=r"nothing states the mean .* weights import"):
        _load("vit", path)


@pytest.mark.parametrize(
    ("added", "reason"),
    [
        ({"norm_pre.weight": torch.ones(192)}, "norm_pre"),
        ({"blocks.0.attn.q_norm.weight": torch.ones(64)}, "q_norm"),
        ({"cls_token": torch.zeros(1, 1, 1280)}, "1280 wide, expected 192, 384, 768, 1024.*Hugging Face layout"),
    ],
)
def test_other_vits_of_timm_are_refused(added: dict[str, Tensor], reason: str, dino: tuple[Any, Path]) -> None:
    path = dino[1] / "model.safetensors"
    save_file({**load_file(path), **added}, path)
    with pytest.raises(WeightsError, match=reason):
        _load("vit", dino[1])


def test_flexible_siglip2_is_refused_with_what_is_read(tmp_path: Path) -> None:
    """Its patches come as a list with a mask, not as an image."""
    from transformers import Siglip2VisionConfig, Siglip2VisionModel

    Siglip2VisionModel(Siglip2VisionConfig(**SIZES, num_patches=16)).save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"model_type 'siglip2_vision_model', expected .*siglip_vision_model"):
        _load("vit", tmp_path)
    with pytest.raises(WeightsError, match=r"model_type 'siglip2_vision_model', expected one of dinov3_vit, "):
        load_network(str(tmp_path), family=None, offline=True)


# As in the config.json of the repositories.
LARGE: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE |= {"intermediate_size": 4096}
SO400M: dict[str, Any] = {"hidden_size": 1152, "num_hidden_layers": 27, "num_attention_heads": 16}
SO400M |= {"intermediate_size": 4304}
SIGLIPS: dict[str, tuple[dict[str, Any], int]] = {
    "siglip-base": ({"image_size": 512}, 32_000),
    "siglip-so400m": ({**SO400M, "image_size": 384, "patch_size": 14}, 32_000),
    "siglip2-base": ({"image_size": 512}, 256_000),
    "siglip2-large": ({**LARGE, "image_size": 512}, 256_000),
    "siglip2-so400m": ({**SO400M, "image_size": 512}, 256_000),
    "medsiglip": ({**SO400M, "image_size": 448, "patch_size": 14}, 32_000),
}


@pytest.mark.parametrize("name", SIGLIPS)
def test_the_catalogue_counts_the_parameters_of_siglips(name: str) -> None:
    from transformers import SiglipConfig, SiglipModel, SiglipVisionModel

    vision, words = SIGLIPS[name]
    text = {key: value for key, value in vision.items() if key not in {"image_size", "patch_size"}}
    text |= {"vocab_size": words, "projection_size": vision.get("hidden_size", 768), "bos_token_id": 1}
    config = SiglipConfig(vision_config=vision, text_config={**text, "eos_token_id": 2})
    with torch.device("meta"):
        whole = SiglipModel(config)
        config.vision_config.vision_use_head = False
        image_side = SiglipVisionModel(config.vision_config)
    counts = [sum(parameter.numel() for parameter in network.parameters()) for network in (image_side, whole)]
    assert counts == [KNOWN[name].parameters, KNOWN[name].file_parameters]


@pytest.mark.parametrize(("name", "width", "patch"), [("dino-vits8", 384, 8), ("dino-vitb16", 768, 16)])
def test_the_catalogue_counts_the_parameters_of_dino(name: str, width: int, patch: int) -> None:
    from transformers import ViTConfig, ViTModel

    sizes = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    with torch.device("meta"):
        network = ViTModel(ViTConfig(**sizes, patch_size=patch), add_pooling_layer=False)
    assert sum(parameter.numel() for parameter in network.parameters()) == KNOWN[name].parameters


@pytest.mark.parametrize(
    ("source", "licence"),
    [
        ("google/siglip2-base-patch16-512", "Apache-2.0"),
        ("timm/vit_base_patch16_224.dino", "Apache-2.0"),
        ("microsoft/rad-dino", "MIT"),
        ("google/medsiglip-448", "HAI-DEF terms"),
    ],
)
def test_their_licences_are_known(source: str, licence: str) -> None:
    assert infer_licence("vit", source) == licence


def test_a_name_of_the_list_is_a_source_of_weights_unless_a_folder_is_called_so(
    dino: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(tmp_path / "weights"))
    shutil.copytree(dino[1], tmp_path / "weights" / "dino-vits8")
    assert _load("vit", Path("dino-vits8")).identity["weights"] == "timm/vit_small_patch8_224.dino"
    monkeypatch.chdir(tmp_path / "weights")
    assert _load("vit", Path("dino-vits8")).identity["weights"] == "dino-vits8"


def test_the_backbone_vit_has_sizes_and_no_default() -> None:
    with pytest.raises(WeightsError, match=r"timm/vit_small_patch16_224\.dino: not in the local cache"):
        build_backbone("vit", {"size": "dino-vits16"}, offline=True)
    with pytest.raises(ConfigError, match=r"unknown size of vit 'siglip3'.*siglip2-base"):
        build_backbone("vit", {"size": "siglip3"}, offline=True)
    with pytest.raises(ConfigError, match=r"expected either weights .* or size"):
        build_backbone("vit", {}, offline=True)
    with pytest.raises(ConfigError, match="backbone vit has no default weights"):
        resolve_source("vit")
