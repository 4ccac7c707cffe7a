"""Converted state dicts of Meta, timm and Hugging Face compute the same as the original network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.conversion import convert_state_dict
from guidino_cli.models.pretrained.loading import load_network

Tensors = dict[str, Tensor]
# As wide as two heads of DINO: the number of heads is read off the width.
WIDE: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "initializer_range": 0.2}


def _randomize(network: Any) -> Any:
    """Every tensor random: zeros and ones would hide a swap."""
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data = parameter.data + 0.2 * torch.randn(parameter.shape, generator=generator)
    return network.eval()


def _dinov3(*, gated: bool = False, bias: bool = True) -> Any:
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    kind = {"use_gated_mlp": gated, "hidden_act": "silu" if gated else "gelu", "query_bias": bias, "value_bias": bias}
    return _randomize(DINOv3ViTModel(DINOv3ViTConfig(**WIDE, intermediate_size=96, num_register_tokens=4, **kind)))


def _dinov2(*, registers: int = 0, gated: bool = False) -> Any:
    import transformers

    name = "Dinov2WithRegisters" if registers else "Dinov2"
    settings = {**WIDE, "patch_size": 14, "image_size": 56, "layer_norm_eps": 1e-6, "use_swiglu_ffn": gated}
    settings |= {"num_register_tokens": registers} if registers else {}
    return _randomize(getattr(transformers, f"{name}Model")(getattr(transformers, f"{name}Config")(**settings)))


def _convnext() -> Any:
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    return _randomize(DINOv3ConvNextModel(DINOv3ConvNextConfig(hidden_sizes=[8, 12, 16, 24], depths=[1, 2, 1, 1])))


# --- The inverse conversion, written independently of the package: from transformers' modules to other names.


def _vit_blocks(blocks: Any, mlp: dict[str, str], scale: str) -> Tensors:
    out: Tensors = {}
    for i, block in enumerate(blocks):
        attention = block.attention
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        out[f"blocks.{i}.attn.qkv.weight"] = torch.cat([item.weight for item in projections])
        out[f"blocks.{i}.attn.proj.weight"], out[f"blocks.{i}.attn.proj.bias"] = (
            attention.o_proj.weight,
            attention.o_proj.bias,
        )
        for k in (1, 2):
            norm = getattr(block, f"norm{k}")
            out[f"blocks.{i}.norm{k}.weight"], out[f"blocks.{i}.norm{k}.bias"] = norm.weight, norm.bias
            out[f"blocks.{i}.{scale.format(k)}"] = getattr(block, f"layer_scale{k}").lambda1
        for own, theirs in mlp.items():
            layer = getattr(block.mlp, own)
            out[f"blocks.{i}.mlp.{theirs}.weight"], out[f"blocks.{i}.mlp.{theirs}.bias"] = layer.weight, layer.bias
    return out


def _dinov3_base(network: Any) -> Tensors:
    embeddings = network.embeddings
    return {
        "cls_token": embeddings.cls_token,
        "patch_embed.proj.weight": embeddings.patch_embeddings.weight,
        "patch_embed.proj.bias": embeddings.patch_embeddings.bias,
        "norm.weight": network.norm.weight,
        "norm.bias": network.norm.bias,
    }


def _dinov3_as_meta(network: Any) -> Tensors:
    gated = network.config.use_gated_mlp
    mlp = {"gate_proj": "w1", "up_proj": "w2", "down_proj": "w3"} if gated else {"up_proj": "fc1", "down_proj": "fc2"}
    out = _dinov3_base(network) | _vit_blocks(network.model.layer, mlp, "ls{}.gamma")
    out["mask_token"] = network.embeddings.mask_token[0]
    out["storage_tokens"] = network.embeddings.register_tokens
    out["rope_embed.periods"] = 100.0 ** (torch.arange(16) / 16)
    for name in ("weight", "bias"):
        out[f"local_cls_norm.{name}"] = torch.ones(128)
    for i, block in enumerate(network.model.layer):
        if network.config.query_bias:
            q, v = block.attention.q_proj.bias, block.attention.v_proj.bias
            # Meta keeps a key bias in the file and masks it out.
            out[f"blocks.{i}.attn.qkv.bias"] = torch.cat([q, torch.full_like(q, 7.0), v])
            out[f"blocks.{i}.attn.qkv.bias_mask"] = torch.cat([torch.ones(128), torch.zeros(128), torch.ones(128)])
    return out


def _dinov3_as_timm(network: Any) -> Tensors:
    gated = network.config.use_gated_mlp
    mlp = {"gate_proj": "fc1_g", "up_proj": "fc1_x", "down_proj": "fc2"}
    out = _dinov3_base(network) | _vit_blocks(
        network.model.layer, mlp if gated else {"up_proj": "fc1", "down_proj": "fc2"}, "gamma_{}"
    )
    out["reg_token"] = network.embeddings.register_tokens
    for i, block in enumerate(network.model.layer):
        if network.config.query_bias:
            out[f"blocks.{i}.attn.q_bias"] = block.attention.q_proj.bias
            out[f"blocks.{i}.attn.v_bias"] = block.attention.v_proj.bias
    return out


def _dinov2_as_meta(network: Any) -> Tensors:
    gated = network.config.use_swiglu_ffn
    embeddings = network.embeddings
    out = _vit_blocks(network.encoder.layer, {} if gated else {"fc1": "fc1", "fc2": "fc2"}, "ls{}.gamma")
    out |= {
        "cls_token": embeddings.cls_token,
        "mask_token": embeddings.mask_token,
        "pos_embed": embeddings.position_embeddings,
        "patch_embed.proj.weight": embeddings.patch_embeddings.projection.weight,
        "patch_embed.proj.bias": embeddings.patch_embeddings.projection.bias,
        "norm.weight": network.layernorm.weight,
        "norm.bias": network.layernorm.bias,
    }
    if hasattr(embeddings, "register_tokens"):
        out["register_tokens"] = embeddings.register_tokens
    for i, block in enumerate(network.encoder.layer):
        for part in ("weight", "bias") if gated else ():
            parts_of_w12 = [getattr(getattr(block.mlp, name), part) for name in ("gate_proj", "up_proj")]
            out[f"blocks.{i}.mlp.w12.{part}"] = torch.cat(parts_of_w12)
            out[f"blocks.{i}.mlp.w3.{part}"] = getattr(block.mlp.down_proj, part)
        parts = (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
        out[f"blocks.{i}.attn.qkv.bias"] = torch.cat([part.bias for part in parts])
    return out


def _dinov2_as_timm(network: Any) -> Tensors:
    out = {name.replace("w12", "fc1").replace("w3", "fc2"): value for name, value in _dinov2_as_meta(network).items()}
    del out["mask_token"]
    if "register_tokens" in out:
        out["reg_token"] = out.pop("register_tokens")
        out["cls_token"] = out["cls_token"] + out["pos_embed"][:, :1]
        out["pos_embed"] = out["pos_embed"][:, 1:]
    return out


def _convnext_as(network: Any, stem: str, down: str, block: str, parts: dict[str, str], norm: str) -> Tensors:
    out: Tensors = {}
    for i, stage in enumerate(network.model.stages):
        for j, layer in enumerate(stage.downsample_layers):
            place = (stem if i == 0 else down).format(i=i, j=j)
            out[f"{place}.weight"], out[f"{place}.bias"] = layer.weight, layer.bias
        for j, own in enumerate(stage.layers):
            out[block.format(i=i, j=j) + ".gamma"] = own.gamma
            for name, theirs in parts.items():
                place, layer = f"{block.format(i=i, j=j)}.{theirs}", getattr(own, name)
                out[f"{place}.weight"], out[f"{place}.bias"] = layer.weight, layer.bias
    out[f"{norm}.weight"], out[f"{norm}.bias"] = network.layer_norm.weight, network.layer_norm.bias
    return out


def _convnext_as_meta(network: Any) -> Tensors:
    parts = {
        "depthwise_conv": "dwconv",
        "layer_norm": "norm",
        "pointwise_conv1": "pwconv1",
        "pointwise_conv2": "pwconv2",
    }
    place = "downsample_layers.{i}.{j}"
    out = _convnext_as(network, place, place, "stages.{i}.{j}", parts, "norm")
    return {**out, "norms.3.weight": out["norm.weight"], "norms.3.bias": out["norm.bias"]}


def _convnext_as_timm(network: Any) -> Tensors:
    parts = {
        "depthwise_conv": "conv_dw",
        "layer_norm": "norm",
        "pointwise_conv1": "mlp.fc1",
        "pointwise_conv2": "mlp.fc2",
    }
    return _convnext_as(network, "stem.{j}", "stages.{i}.downsample.{j}", "stages.{i}.blocks.{j}", parts, "head.norm")


CASES = {
    "dinov3 of Meta": (lambda: _dinov3(), _dinov3_as_meta),
    "gated dinov3 of Meta": (lambda: _dinov3(gated=True), _dinov3_as_meta),
    "dinov3 7B of Meta": (lambda: _dinov3(gated=True, bias=False), _dinov3_as_meta),
    "dinov3 of timm": (lambda: _dinov3(bias=False), _dinov3_as_timm),
    "dinov3 of timm with biases": (lambda: _dinov3(), _dinov3_as_timm),
    "gated dinov3 of timm": (lambda: _dinov3(gated=True, bias=False), _dinov3_as_timm),
    "dinov2 of Meta": (lambda: _dinov2(), _dinov2_as_meta),
    "dinov2 with registers of Meta": (lambda: _dinov2(registers=4), _dinov2_as_meta),
    "giant dinov2 of Meta": (lambda: _dinov2(gated=True), _dinov2_as_meta),
    "dinov2 of timm": (lambda: _dinov2(), _dinov2_as_timm),
    "dinov2 with registers of timm": (lambda: _dinov2(registers=4), _dinov2_as_timm),
    "giant dinov2 of timm": (lambda: _dinov2(gated=True), _dinov2_as_timm),
    "convnext of Meta": (_convnext, _convnext_as_meta),
    "convnext of timm": (_convnext, _convnext_as_timm),
}


@pytest.mark.parametrize(("make", "rename"), CASES.values(), ids=CASES.keys())
def test_a_converted_file_computes_the_same_as_its_network(
    make: Callable[[], Any], rename: Callable[[Any], Tensors], tmp_path: Path
) -> None:
    network = make()
    # The name says nothing: the keys must.
    path = tmp_path / "weights.pth"
    torch.save({name: value.detach().clone() for name, value in rename(network).items()}, path)
    loaded = load_network(str(path), family=None, offline=True).network
    # DINOv2 at the size of its position codes, which others interpolate differently.
    image = torch.randn(1, 3, 56, 56) if network.config.model_type.startswith("dinov2") else torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            loaded(image).last_hidden_state, network(image).last_hidden_state, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("make", [_dinov3, _dinov2, lambda: _dinov2(registers=4), _convnext])
def test_a_hugging_face_file_loads_without_a_configuration(make: Callable[[], Any], tmp_path: Path) -> None:
    network = make()
    network.save_pretrained(tmp_path / "folder")
    path = tmp_path / "alone.safetensors"
    (tmp_path / "folder" / "model.safetensors").rename(path)
    image = torch.randn(1, 3, 56, 56)
    with torch.no_grad():
        found = load_network(str(path), family=None, offline=True).network(image).last_hidden_state
        torch.testing.assert_close(found, network(image).last_hidden_state, rtol=1e-5, atol=1e-5)


def test_equal_weights_have_equal_identities_in_every_naming(tmp_path: Path) -> None:
    network = _dinov3()
    network.save_pretrained(tmp_path / "folder")
    torch.save({name: value.detach().clone() for name, value in _dinov3_as_meta(network).items()}, tmp_path / "a.pth")
    one, other = (
        load_network(str(tmp_path / name), family="dinov3", offline=True).identity["sha256"]
        for name in ("folder", "a.pth")
    )
    assert one == other


@pytest.mark.parametrize("wrapper", ["model", "state_dict", "teacher"])
def test_a_wrapped_and_prefixed_state_dict_is_loaded(wrapper: str, tmp_path: Path) -> None:
    own = {f"backbone.{name}": value.detach().clone() for name, value in _dinov3_as_meta(_dinov3()).items()}
    torch.save({wrapper: own, "epoch": 3}, tmp_path / "a.pth")
    assert load_network(str(tmp_path / "a.pth"), family="dinov3", offline=True).network.config.num_hidden_layers == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("blocks.1.mlp.fc2.weight"), r"1 missing \(layer\.1\.mlp\.down_proj\.weight\)|down_proj"),
        (lambda t: t.update({"head.weight": torch.zeros(2)}), r"1 unexpected \(head\.weight\)"),
        (lambda t: t.update({"norm.weight": torch.zeros(127)}), "norm.weight"),
        (lambda t: t.update({"rope_embed.periods": torch.ones(16)}), "not those of base 100"),
    ],
)
def test_unexpected_missing_and_misshapen_tensors_are_refused_by_name(
    change: Callable[[Tensors], Any], message: str, tmp_path: Path
) -> None:
    tensors = {name: value.detach().clone() for name, value in _dinov3_as_meta(_dinov3()).items()}
    change(tensors)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=message):
        load_network(str(tmp_path / "a.safetensors"), family="dinov3", offline=True)


def test_another_architecture_is_refused_with_its_tensors_and_the_known_ones() -> None:
    with pytest.raises(WeightsError, match=r"resnet\.pth: of another architecture .*conv1\.weight.*expected DINOv3"):
        convert_state_dict("resnet.pth", {"conv1.weight": torch.zeros(1), "layer1.0.conv1.weight": torch.zeros(1)})


def test_a_plain_vit_of_timm_is_not_recognised_as_dino() -> None:
    plain = {"cls_token": torch.zeros(1, 1, 128), "pos_embed": torch.zeros(1, 197, 128), "norm.weight": torch.ones(128)}
    with pytest.raises(WeightsError, match="another architecture"):
        convert_state_dict("vit.pth", plain)
