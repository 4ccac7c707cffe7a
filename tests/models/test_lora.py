"""LoRA: which layers are adapted, what gets a gradient, and PEFT's file format."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from guidino_cli.config import LoraSettings
from guidino_cli.errors import ConfigError, WeightsError
from guidino_cli.models import build_backbone
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.base import Backbone, is_lora_parameter
from guidino_cli.models.finetuning import enable_gradient_checkpointing, get_transformers_model
from guidino_cli.models.lora import (
    adapter_config_json,
    adapter_state_dict,
    add_lora,
    find_target_modules,
    load_adapter,
    merge_adapter,
)
from guidino_cli.models.pretrained.catalogue import licence_note

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def _tiny(**options: Any) -> Backbone:
    return random_dino(hidden_size=32, depth=3, heads=2, **options)


def _adapted(settings: LoraSettings | None = None, **options: Any) -> Backbone:
    torch.manual_seed(0)
    backbone = _tiny(**options)
    add_lora(backbone, settings or LoraSettings())
    return backbone


def _stir(backbone: Backbone) -> None:
    """Move an adapter away from zero, as training would."""
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in backbone.named_parameters():
            if is_lora_parameter(name):
                parameter.add_(0.1 * torch.randn_like(parameter))


def _image(seed: int = 2) -> torch.Tensor:
    return torch.rand(2, 3, 48, 32, generator=torch.Generator().manual_seed(seed))


def _learning(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: value for name, value in module.named_parameters() if value.requires_grad}


def _save(backbone: Backbone, folder: Path, settings: LoraSettings) -> Path:
    folder.mkdir()
    save_file(adapter_state_dict(backbone), folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(adapter_config_json(backbone, settings))
    return folder


# --- What is adapted


def test_attention_of_a_vit_small_at_rank_8_has_the_papers_294912_weights() -> None:
    """12 blocks x 4 projections x 8 x (384 + 384)."""
    backbone = random_dino(depth=1)
    add_lora(backbone, LoraSettings(targets=ATTENTION))
    assert 12 * sum(p.numel() for p in _learning(backbone).values()) == 294_912


def test_all_projections_of_a_vit_small_at_rank_8_have_663552_weights() -> None:
    """12 blocks x 8 x (4 x (384 + 384) for attention, 2 x (384 + 1536) for the MLP)."""
    backbone = random_dino(depth=1)
    add_lora(backbone, LoraSettings())
    assert 12 * sum(p.numel() for p in _learning(backbone).values()) == 663_552


def test_only_the_chosen_blocks_are_adapted_counted_from_one() -> None:
    backbone = _adapted(LoraSettings(layers=[1, 3]))
    assert {name.split(".")[3] for name in _learning(backbone)} == {"0", "2"}


def test_blocks_that_the_backbone_dropped_cannot_be_adapted() -> None:
    with pytest.raises(ConfigError, match=r"model\.lora\.layers is \[3\], but the backbone uses blocks 1\.\.2"):
        add_lora(_tiny(layers=[2]), LoraSettings(layers=[3]))


def test_a_target_that_does_not_exist_is_refused_with_those_that_do() -> None:
    """The authors' code lists fc1 and fc2, which DINOv3 does not have, and adapts no MLP in silence."""
    with pytest.raises(
        ConfigError, match=r"unknown projection 'fc1'.*down_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    ):
        add_lora(_tiny(), LoraSettings(targets=[*ATTENTION, "fc1"]))


def test_an_empty_list_of_targets_is_refused() -> None:
    with pytest.raises(ConfigError, match="targets is empty"):
        add_lora(_tiny(), LoraSettings(targets=[]))


def _swin_like() -> nn.Module:
    from transformers import Dinov2Config, Dinov2Model

    return Dinov2Model(Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, use_swiglu_ffn=True))


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTModel

    return ViTModel(ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64))


def _convnext() -> nn.Module:
    from transformers import DINOv3ConvNextConfig, DINOv3ConvNextModel

    return DINOv3ConvNextModel(DINOv3ConvNextConfig(depths=[1, 1, 2, 1], hidden_sizes=[8, 16, 32, 64]))


@pytest.mark.parametrize(
    ("network", "per_block", "blocks"),
    [(_swin_like, 7, 2), (_vit, 6, 2), (_convnext, 2, 5)],
    ids=["swiglu", "vit", "convnext"],
)
def test_all_means_every_linear_layer_of_every_block_and_none_outside(
    network: Callable[[], nn.Module], per_block: int, blocks: int
) -> None:
    """Not the pooler, the patch embedding or a stage's downsampling."""
    names = find_target_modules(network(), LoraSettings())
    assert len(names) == len(set(names)) == per_block * blocks
    assert not [name for name in names if "pooler" in name or "embed" in name or "downsample" in name]


# --- What learns and what stays


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}, {"dora": True, "rslora": True}], ids=str)
def test_a_fresh_adapter_changes_no_bit(options: dict[str, bool]) -> None:
    plain, adapted = _tiny(layers=[1, 3]), _adapted(LoraSettings(**options), layers=[1, 3]).eval()
    assert all(torch.equal(a, b) for a, b in zip(plain(_image()), adapted(_image()), strict=True))


@pytest.mark.parametrize("options", [{}, {"rslora": True}, {"dora": True}], ids=str)
def test_only_the_adapter_learns_and_the_base_keeps_every_bit(options: dict[str, bool]) -> None:
    backbone = _adapted(LoraSettings(**options))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    optimizer = torch.optim.AdamW(_learning(backbone).values(), lr=1e-2, weight_decay=0.1)
    backbone.train()
    for _ in range(2):
        backbone(_image())[-1].square().mean().backward()
        optimizer.step()
    changed = {name for name, value in backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if is_lora_parameter(name)}


def test_scaling_is_alpha_over_rank_and_with_rslora_over_its_root() -> None:
    from peft.tuners.lora import LoraLayer

    for rslora, wanted in ((False, 2.0), (True, 16 / 8**0.5)):
        backbone = _adapted(LoraSettings(rslora=rslora))
        layer = next(module for module in backbone.modules() if isinstance(module, LoraLayer))
        assert layer.scaling["default"] == pytest.approx(wanted)


def test_in_training_nothing_but_the_dropout_of_lora_is_random() -> None:
    """DINOv3 in train mode rescales its position codes at random."""
    backbone = _adapted(LoraSettings(dropout=0.0))
    _stir(backbone)
    backbone.train()
    assert torch.equal(backbone(_image())[0], backbone(_image())[0])
    assert not get_transformers_model(backbone).training
    assert not [name for name, m in backbone.named_modules() if m.training and "rope" in name]


@pytest.mark.parametrize("dora", [False, True])
def test_the_dropout_of_lora_follows_the_mode(dora: bool) -> None:
    backbone = _adapted(LoraSettings(dropout=0.5, dora=dora))
    _stir(backbone)
    backbone.train()
    assert not torch.equal(backbone(_image())[0], backbone(_image())[0])
    backbone.eval()
    assert torch.equal(backbone(_image())[0], backbone(_image())[0])


def test_frozen_with_its_adapter_a_backbone_has_no_gradients_and_no_mode() -> None:
    backbone = _adapted(LoraSettings(dropout=0.5))
    backbone.freeze()
    backbone.train()
    assert not _learning(backbone)
    assert not any(module.training for module in backbone.modules())


# --- Checkpointing


def _gradients(backbone: Backbone) -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    backbone.train()
    backbone(_image())[-1].square().mean().backward()
    return {name: value.grad for name, value in _learning(backbone).items() if value.grad is not None}


def test_checkpointing_runs_blocks_twice_and_changes_no_gradient() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        backbone = _adapted(LoraSettings(dropout=0.3))
        _stir(backbone)
        if checkpointing:
            enable_gradient_checkpointing(backbone)
        count: list[int] = []
        get_transformers_model(backbone).model.layer[0].norm1.register_forward_hook(
            lambda *_, count=count: count.append(1)
        )
        gradients.append(_gradients(backbone))
        calls.append(len(count))
    assert calls == [1, 2]
    assert gradients[0].keys() == gradients[1].keys() != set()
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-5, atol=1e-7)


def test_checkpointing_a_family_that_cannot_is_refused() -> None:
    class ConvNeXt(Backbone):
        def __init__(self) -> None:
            super().__init__()
            self.network = _convnext()

        def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [image]

    with pytest.raises(
        ConfigError, match=r"train\.checkpointing: DINOv3ConvNextModel does not support it; leave it out"
    ):
        enable_gradient_checkpointing(ConvNeXt())


# --- PEFT's own format


@pytest.mark.parametrize(
    "settings",
    [LoraSettings(), LoraSettings(rslora=True, layers=[2]), LoraSettings(dora=True)],
    ids=["lora", "rslora", "dora"],
)
def test_peft_itself_loads_the_adapter_onto_the_same_base(settings: LoraSettings, tmp_path: Path) -> None:
    from peft import PeftModel

    backbone = _adapted(settings).eval()
    _stir(backbone)
    folder = _save(backbone, tmp_path / "adapter", settings)
    network = PeftModel.from_pretrained(get_transformers_model(_tiny()), str(folder)).eval()
    pixels = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        wanted = get_transformers_model(backbone)(pixels).last_hidden_state
        assert torch.equal(network(pixels).last_hidden_state, wanted)
    assert not torch.equal(get_transformers_model(_tiny())(pixels).last_hidden_state, wanted)


def test_an_adapter_of_a_backbone_cut_short_leaves_the_blocks_behind_alone(tmp_path: Path) -> None:
    from peft import PeftModel
    from peft.tuners.lora import LoraLayer

    backbone = _adapted(layers=[2])
    folder = _save(backbone, tmp_path / "adapter", LoraSettings())
    network = PeftModel.from_pretrained(get_transformers_model(_tiny()), str(folder))
    adapted = {name.split(".")[4] for name, module in network.named_modules() if isinstance(module, LoraLayer)}
    assert adapted == {"0", "1"}


@pytest.mark.parametrize("settings", [LoraSettings(), LoraSettings(dora=True)], ids=["lora", "dora"])
def test_an_adapter_that_was_saved_comes_back_bit_for_bit(settings: LoraSettings, tmp_path: Path) -> None:
    backbone = _adapted(settings).eval()
    _stir(backbone)
    folder = _save(backbone, tmp_path / "adapter", settings)
    other = _adapted(settings).eval()
    load_adapter(other, folder / "adapter_model.safetensors")
    assert torch.equal(other(_image())[0], backbone(_image())[0])


@pytest.mark.parametrize("settings", [LoraSettings(), LoraSettings(dora=True)], ids=["lora", "dora"])
def test_a_merged_backbone_has_the_features_of_the_adapted_one(settings: LoraSettings, tmp_path: Path) -> None:
    backbone = _adapted(settings).eval()
    _stir(backbone)
    network = merge_adapter(_tiny(), _save(backbone, tmp_path / "adapter", settings))
    assert not [name for name in network.state_dict() if is_lora_parameter(name)]
    network.save_pretrained(tmp_path / "merged")
    again = build_backbone("dinov3", {"weights": str(tmp_path / "merged")}, offline=True)
    assert (again(_image())[0] - backbone(_image())[0]).abs().max() <= 1e-5


def test_dinov2_is_adapted_saved_and_merged_too(dinov2_folder: Path, tmp_path: Path) -> None:
    options, settings = {"weights": str(dinov2_folder)}, LoraSettings(targets=["fc1", "q_proj"])
    backbone = build_backbone("dinov2", options, offline=True)
    add_lora(backbone, settings)
    backbone.eval()
    _stir(backbone)
    network = merge_adapter(
        build_backbone("dinov2", options, offline=True), _save(backbone, tmp_path / "adapter", settings)
    )
    network.save_pretrained(tmp_path / "merged")
    again = build_backbone("dinov2", {"weights": str(tmp_path / "merged")}, offline=True)
    assert (again(_image())[0] - backbone(_image())[0]).abs().max() <= 1e-5


def test_an_adapter_of_another_rank_is_refused_by_name(tmp_path: Path) -> None:
    folder = _save(_adapted(LoraSettings(rank=4)), tmp_path / "adapter", LoraSettings(rank=4))
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: does not fit .* 36 of 36 tensors"):
        load_adapter(_adapted(), folder / "adapter_model.safetensors")


def test_an_adapter_for_other_targets_is_refused_and_not_half_loaded(tmp_path: Path) -> None:
    folder = _save(_adapted(LoraSettings(targets=["q_proj"])), tmp_path / "adapter", LoraSettings(targets=["q_proj"]))
    with pytest.raises(WeightsError, match=r"does not fit the backbone as model\.lora adapts it: 30 of 36"):
        load_adapter(_adapted(), folder / "adapter_model.safetensors")


@pytest.mark.parametrize("content", [b"", b"nothing that can be read"])
def test_a_damaged_adapter_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"adapter_model\.safetensors: no usable adapter"):
        load_adapter(_adapted(), tmp_path / "adapter_model.safetensors")


def test_what_derives_from_dinov3_says_under_which_licence_it_may_be_passed_on() -> None:
    identity = {"weights": "facebook/dinov3-vits16", "sha256": "ab", "licence": "DINOv3 licence"}
    assert "only under that licence, together with a copy of it: https://ai.meta.com" in licence_note(identity)
    assert "only under" not in licence_note({**identity, "licence": "Apache-2.0"})


@pytest.mark.parametrize("dora", [False, True])
def test_beside_a_base_in_half_precision_the_adapter_is_in_full_and_learns(dora: bool) -> None:
    backbone = _tiny()
    get_transformers_model(backbone).to(torch.bfloat16)
    plain = backbone(_image())[0]
    add_lora(backbone, LoraSettings(dora=dora))
    assert {parameter.dtype for parameter in _learning(backbone).values()} == {torch.float32}
    if not dora:
        assert torch.equal(backbone.eval()(_image())[0], plain)
    assert _gradients(backbone).keys() == _learning(backbone).keys()
