"""Backbone of SAM 2's image encoder (Hiera; Ravi et al. 2024, arXiv:2408.00714): frozen, with trainable adapters."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor, nn
from transformers import Sam2HieraDetConfig, Sam2HieraDetModel

from guidino_cli.errors import ConfigError, WeightsError, unknown_name
from guidino_cli.models.backbones.normalizer import InputNormalizer
from guidino_cli.models.base import Backbone
from guidino_cli.models.pretrained.catalogue import expand_name
from guidino_cli.models.pretrained.config_files import build_config, read_json_object, refuse_foreign_code
from guidino_cli.models.pretrained.files import read_shards
from guidino_cli.models.pretrained.hub import fetch_weights, replace_hint, weight_files
from guidino_cli.models.pretrained.statistics import IMAGENET
from guidino_cli.models.pretrained.strict_loading import hash_weights, load_tensors_strictly, loading_errors

_STRIDE = 32
_LICENCE = "Apache-2.0 if Meta's own SAM 2, else see its source"
# Prefixes of the encoder's tensors in SAM 2, its vision model and the encoder alone; sections of its configuration.
_PREFIXES = ("vision_encoder.backbone.", "backbone.", "")
_SECTIONS = ("vision_config", "backbone_config")


@dataclass(frozen=True)
class _Size:
    """A published Hiera; defaults are those of the tiny one, as in transformers."""

    width: int
    blocks: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    heads: int = 1
    windows: tuple[int, int, int, int] = (8, 4, 14, 7)
    background_size: int = 7


_SIZES = {
    "tiny": _Size(96, (1, 2, 7, 2), (5, 7, 9)),
    "small": _Size(96, (1, 2, 11, 2), (7, 10, 13)),
    "base-plus": _Size(112, (2, 3, 16, 3), (12, 16, 20), heads=2, background_size=14),
    "large": _Size(144, (2, 6, 36, 4), (23, 33, 43), heads=2, windows=(8, 4, 16, 8)),
}


class SAM2(Backbone):
    """A transformers `Sam2HieraDetModel`: four maps at 1/4, 1/8, 1/16 and 1/32 of the image.

    Its own weights are frozen. With adapters, as in SAM2-UNet (Xiong et al. 2024), the input of each block first passes
    a residual bottleneck; these are trained, and a run saves them beside its segmenter.

    Args:
        hiera: The network.
        identity: Source of the weights.
        adapters: Width of the adapter before each block; 0 for none.
    """

    adapter_names = ("adapters",)
    hiera: Any

    def __init__(self, hiera: Any, *, identity: dict[str, str], adapters: int = 32) -> None:
        super().__init__()
        self.hiera = hiera
        self.identity = identity
        self.level_channels = list(hiera.config.embed_dim_per_stage)
        self.channels = self.level_channels[-1]
        self.stride = _STRIDE
        self.normalizer = InputNormalizer(stride=_STRIDE, scale=1.0, mean=IMAGENET[0], std=IMAGENET[1])
        self.freeze()
        self.adapters = nn.ModuleList(_Adapter(block.dim, adapters) for block in hiera.blocks if adapters)
        if adapters:
            self.enable_adapter(self.adapters.modules())

    def forward(self, image: Tensor) -> list[Tensor]:
        """Maps (B, D, h, w) of the four stages in the image's dtype; their grids cover the image exactly."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.is_frozen):
            pixels = self.normalizer(image).to(next(self.hiera.parameters()).dtype)
            x = self.hiera.patch_embed(pixels)
            x = x + self.hiera._get_pos_embed(x.shape[1:3])
            maps = []
            for number, block in enumerate(self.hiera.blocks):
                x = block(self.adapters[number](x) if self.adapters else x)
                if number in self.hiera.stage_ends:
                    maps.append(x.permute(0, 3, 1, 2).to(image.dtype))
            return maps

    def unfreeze(self) -> NoReturn:
        """Raise `ConfigError`: SAM2-UNet freezes its encoder."""
        raise ConfigError("model.finetune: backbone sam2 trains its adapters alone; leave it out, or use dinov3")


class _Adapter(nn.Module):
    """Residual bottleneck per cell: down, GELU, up, GELU."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.bottleneck = nn.Sequential(nn.Linear(channels, width), nn.GELU(), nn.Linear(width, channels), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.bottleneck(x)
        return out


def load_sam2(
    *,
    family: Literal["sam2"],
    offline: bool,
    weights: str | None = None,
    size: str | None = None,
    adapters: int = 32,
    random: bool = False,
    widths: Sequence[int] | None = None,
    blocks: Sequence[int] | None = None,
    seed: int = 0,
) -> SAM2:
    """Load SAM 2's encoder from a local folder or file, the Hugging Face cache or, unless offline, the hub.

    Args:
        family: "sam2".
        offline: Never contact the hub.
        weights: Folder in Hugging Face layout, such as that of facebook/sam2-hiera-large, its model.safetensors, or its
            hub id.
        size: tiny, small, base-plus or large: the official weights, instead of `weights`; large by default.
        adapters: See `SAM2`.
        random: Random weights of that size: the control for any claim about pretraining, and the encoder of tests.
        widths: Widths of the four stages of a random encoder, instead of the size's.
        blocks: Blocks of the four stages of a random encoder, instead of the size's.
        seed: Seed of random weights.

    Raises:
        WeightsError: Missing, damaged, or of another network; the message says what to do.
        ConfigError: No such size.
        ValueError: Contradictory or invalid options.
    """
    if adapters < 0:
        raise ValueError(f"adapters is {adapters}, expected their width, or 0 for none")
    if weights is not None and (size is not None or random):
        raise ValueError(f"weights {weights} are given, so leave size and random out")
    if not random and (widths is not None or blocks is not None):
        raise ValueError("widths and blocks follow from the weights; they can be set with random=true only")
    config = hiera_config(size or "large", widths=widths, blocks=blocks)
    if random:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            hiera = Sam2HieraDetModel(config).eval()
        identity = {"weights": f"random, seed {seed}", "sha256": hash_weights(hiera)}
        return SAM2(hiera, identity=identity, adapters=adapters)
    source = expand_name(weights) if weights else f"facebook/sam2-hiera-{size or 'large'}"
    hiera = _load_encoder(source, offline=offline)
    identity = {"weights": source, "sha256": hash_weights(hiera), "licence": _LICENCE}
    return SAM2(hiera, identity=identity, adapters=adapters)


def hiera_config(
    name: str, *, widths: Sequence[int] | None = None, blocks: Sequence[int] | None = None
) -> Sam2HieraDetConfig:
    """Configuration of a named size, optionally with other widths and blocks; `ConfigError` for an unknown name."""
    if name not in _SIZES:
        raise ConfigError(unknown_name("size of sam2", name, _SIZES))
    size = _SIZES[name]
    widths = list(widths or (size.width * 2**stage for stage in range(4)))
    heads = [size.heads * 2**stage for stage in range(4)]
    blocks = list(blocks or size.blocks)
    if (
        len(widths) != 4
        or len(blocks) != 4
        or min(blocks) < 1
        or any(w % h for w, h in zip(widths, heads, strict=True))
    ):
        found = f"widths are {widths} and blocks {blocks}"
        raise ValueError(f"{found}, expected four each, at least one block, and widths divisible by {heads}")
    return Sam2HieraDetConfig(
        hidden_size=widths[0],
        num_attention_heads=heads[0],
        blocks_per_stage=blocks,
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=heads,
        window_size_per_stage=list(size.windows),
        window_positional_embedding_background_size=[size.background_size] * 2,
        global_attention_blocks=list(size.global_blocks),
    )


def _load_encoder(source: str, *, offline: bool) -> Sam2HieraDetModel:
    """The pretrained encoder, every tensor placed; tensors of SAM 2's other parts are ignored."""
    # No other backbone has the levels that SAM2-UNet reads.
    with replace_hint("use a local folder or file (--set model.backbone.options.weights=/path)"):
        path = fetch_weights(source, offline=offline).path
    folder = path if path.is_dir() else path.parent
    config = _read_config(folder)
    files = weight_files(folder) if path.is_dir() else [path]
    if not files:
        raise WeightsError(f"{source}: no model.safetensors beside config.json")
    tensors = read_shards(files)
    with torch.device("meta"), loading_errors(source):
        hiera = Sam2HieraDetModel(config)
    names = hiera.state_dict().keys()
    prefix = next((prefix for prefix in _PREFIXES if f"{prefix}pos_embed" in tensors), _PREFIXES[0])
    found = {name: tensors[prefix + name].float() for name in names if prefix + name in tensors}
    # Unexpected tensors of the encoder only: SAM 2 has a prompt encoder, a mask decoder and a memory besides.
    unexpected = {
        name: value
        for name, value in tensors.items()
        if name.startswith(f"{prefix}blocks.") and name.removeprefix(prefix) not in names
    }
    load_tensors_strictly(hiera, {**found, **unexpected}, source=source, assign=True)
    return hiera.eval()


def _read_config(folder: Path) -> Sam2HieraDetConfig:
    """The encoder's section of a folder's `config.json`."""
    path = folder / "config.json"
    settings = read_json_object(path)
    refuse_foreign_code(folder, settings)
    for section in _SECTIONS:
        settings = settings.get(section, settings)
        if not isinstance(settings, dict):
            raise WeightsError(f"{path}: {section} is {settings!r:.40}, expected an object; restore the original file")
    if settings.get("model_type") != Sam2HieraDetConfig.model_type:
        raise WeightsError(
            f"{path}: weights of model_type {settings.get('model_type')!r:.40}, expected SAM 2 or its Hiera encoder"
        )
    return build_config(Sam2HieraDetConfig, settings, source=path)
