"""Names of tensors in the files of Meta and timm, as patterns, and what transformers calls them."""

import re

from torch import Tensor

_TOKENS = {
    r"cls_token": "embeddings.cls_token",
    r"mask_token": "embeddings.mask_token",
    r"storage_tokens|register_tokens|reg_token": "embeddings.register_tokens",
}
DINOV3_NAMES = {
    **_TOKENS,
    r"patch_embed\.proj\.(\w+)": r"embeddings.patch_embeddings.\1",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"layer.\1.attention.o_proj.\2",
    r"blocks\.(\d+)\.attn\.q_bias": r"layer.\1.attention.q_proj.bias",
    r"blocks\.(\d+)\.attn\.v_bias": r"layer.\1.attention.v_proj.bias",
    r"blocks\.(\d+)\.ls(\d)\.gamma": r"layer.\1.layer_scale\2.lambda1",
    r"blocks\.(\d+)\.gamma_(\d)": r"layer.\1.layer_scale\2.lambda1",
    r"blocks\.(\d+)\.mlp\.(?:w1|fc1_g)\.(\w+)": r"layer.\1.mlp.gate_proj.\2",
    r"blocks\.(\d+)\.mlp\.(?:w2|fc1_x|fc1)\.(\w+)": r"layer.\1.mlp.up_proj.\2",
    r"blocks\.(\d+)\.mlp\.(?:w3|fc2)\.(\w+)": r"layer.\1.mlp.down_proj.\2",
    r"blocks\.(\d+)\.norm(\d)\.(\w+)": r"layer.\1.norm\2.\3",
}
DINOV2_NAMES = {
    **_TOKENS,
    r"pos_embed": "embeddings.position_embeddings",
    r"patch_embed\.proj\.(\w+)": r"embeddings.patch_embeddings.projection.\1",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"encoder.layer.\1.attention.o_proj.\2",
    r"blocks\.(\d+)\.ls(\d)\.gamma": r"encoder.layer.\1.layer_scale\2.lambda1",
    r"blocks\.(\d+)\.mlp\.w12\.(\w+)": r"encoder.layer.\1.mlp.weights_in.\2",
    r"blocks\.(\d+)\.mlp\.w3\.(\w+)": r"encoder.layer.\1.mlp.weights_out.\2",
    r"blocks\.(\d+)\.mlp\.(fc\d)\.(\w+)": r"encoder.layer.\1.mlp.\2.\3",
    r"blocks\.(\d+)\.norm(\d)\.(\w+)": r"encoder.layer.\1.norm\2.\3",
    r"norm\.(\w+)": r"layernorm.\1",
}
VIT_NAMES = {
    r"cls_token": "embeddings.cls_token",
    r"pos_embed": "embeddings.position_embeddings",
    r"patch_embed\.proj\.(\w+)": r"embeddings.patch_embeddings.projection.\1",
    r"blocks\.(\d+)\.attn\.proj\.(\w+)": r"encoder.layer.\1.attention.output.dense.\2",
    r"blocks\.(\d+)\.mlp\.fc1\.(\w+)": r"encoder.layer.\1.intermediate.dense.\2",
    r"blocks\.(\d+)\.mlp\.fc2\.(\w+)": r"encoder.layer.\1.output.dense.\2",
    r"blocks\.(\d+)\.norm1\.(\w+)": r"encoder.layer.\1.layernorm_before.\2",
    r"blocks\.(\d+)\.norm2\.(\w+)": r"encoder.layer.\1.layernorm_after.\2",
    r"norm\.(\w+)": r"layernorm.\1",
}
VIT_PROJECTIONS = {
    r"(encoder\.layer\.\d+\.attention)\.q_proj\.(\w+)": r"\1.attention.query.\2",
    r"(encoder\.layer\.\d+\.attention)\.k_proj\.(\w+)": r"\1.attention.key.\2",
    r"(encoder\.layer\.\d+\.attention)\.v_proj\.(\w+)": r"\1.attention.value.\2",
}
CONVNEXT_OF_META = {
    r"downsample_layers\.(\d)\.(\d)\.(\w+)": r"stages.\1.downsample_layers.\2.\3",
    r"stages\.(\d)\.(\d+)\.dwconv\.(\w+)": r"stages.\1.layers.\2.depthwise_conv.\3",
    r"stages\.(\d)\.(\d+)\.norm\.(\w+)": r"stages.\1.layers.\2.layer_norm.\3",
    r"stages\.(\d)\.(\d+)\.pwconv(\d)\.(\w+)": r"stages.\1.layers.\2.pointwise_conv\3.\4",
    r"stages\.(\d)\.(\d+)\.gamma": r"stages.\1.layers.\2.gamma",
    r"norm\.(\w+)": r"layer_norm.\1",
}
CONVNEXT_OF_TIMM = {
    r"stem\.(\d)\.(\w+)": r"stages.0.downsample_layers.\1.\2",
    r"stages\.(\d)\.downsample\.(\d)\.(\w+)": r"stages.\1.downsample_layers.\2.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.conv_dw\.(\w+)": r"stages.\1.layers.\2.depthwise_conv.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.norm\.(\w+)": r"stages.\1.layers.\2.layer_norm.\3",
    r"stages\.(\d)\.blocks\.(\d+)\.mlp\.fc(\d)\.(\w+)": r"stages.\1.layers.\2.pointwise_conv\3.\4",
    r"stages\.(\d)\.blocks\.(\d+)\.gamma": r"stages.\1.layers.\2.gamma",
    r"head\.norm\.(\w+)": r"layer_norm.\1",
}


def rename(tensors: dict[str, Tensor], names: dict[str, str]) -> dict[str, Tensor]:
    """Rename every tensor by the first pattern that fits its whole name; without one it keeps its name."""
    return {_new_name(name, names): value for name, value in tensors.items()}


def _new_name(name: str, names: dict[str, str]) -> str:
    for pattern, new in names.items():
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(new)
    return name
