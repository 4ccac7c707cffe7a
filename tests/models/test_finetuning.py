"""Full fine-tuning of a backbone: gradients, modes, stochastic depth and gradient checkpointing."""

import pytest
import torch

from guidino_cli.config import ComponentSettings, FinetuneSettings, ModelSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.backbones.spec import build_from_spec, describe_backbone
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.finetuning import enable_full_finetuning, enable_gradient_checkpointing, get_transformers_model

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def _finetuned(drop_path: float = 0.0, **options: object) -> ViT:
    backbone = random_dino(hidden_size=32, depth=3, heads=2, **options)  # type: ignore[arg-type]
    enable_full_finetuning(backbone, FinetuneSettings(drop_path=drop_path))
    return backbone


def _maps(backbone: ViT, *, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return backbone(IMAGE)


# --- Gradients


@pytest.mark.parametrize("options", [{}, {"layers": [1, 2]}, {"norm": False}])
def test_every_trainable_weight_gets_a_gradient_and_the_mask_token_is_frozen(options: dict) -> None:
    backbone = _finetuned(**options).train()
    torch.stack([level.square().sum() for level in _maps(backbone)]).sum().backward()
    trainable = {name for name, weight in backbone.named_parameters() if weight.requires_grad}
    assert trainable == {name for name, weight in backbone.named_parameters() if weight.grad is not None}
    unused = {name for name, _ in backbone.named_parameters()} - trainable
    norm = set() if options.get("norm", True) else {"vit.norm.weight", "vit.norm.bias"}
    assert unused == {"vit.embeddings.mask_token"} | norm


def test_a_backbone_in_half_precision_is_finetuned_in_float32() -> None:
    backbone = random_dino(hidden_size=32, depth=1, heads=2).to(torch.bfloat16)
    enable_full_finetuning(backbone, FinetuneSettings())
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}


def test_freezing_a_finetuned_backbone_stops_gradients_and_pins_evaluation_mode() -> None:
    backbone = _finetuned(0.5).train()
    backbone.freeze()
    assert not any(module.training for module in backbone.train().modules())
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert not _maps(backbone)[0].requires_grad
    assert not backbone.is_finetuned


def test_a_model_is_built_with_a_finetuned_backbone() -> None:
    settings = ModelSettings(
        ComponentSettings("segdino"),
        ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2, "layers": [1, 2, 3, 4]}),
        finetune=FinetuneSettings(),
    )
    model = build_model(settings, num_classes=2)
    model(IMAGE).logits[0].square().mean().backward()
    unused = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not unused
    assert any(weight.requires_grad for weight in model.backbone.parameters())  # type: ignore[union-attr]


def test_layer_scales_start_at_the_given_value() -> None:
    vit = get_transformers_model(random_dino(hidden_size=32, depth=1, heads=2, layer_scale=1e-5))
    block = vit.model.layer[0]
    assert torch.equal(block.layer_scale1.lambda1, torch.full((32,), 1e-5))
    assert torch.equal(block.layer_scale2.lambda1, torch.full((32,), 1e-5))


# --- Training and evaluation mode


def test_position_codes_are_rescaled_at_random_in_training_only() -> None:
    backbone = _finetuned().train()
    assert not torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=2)[0])
    assert torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=1)[0])
    backbone.eval()
    assert torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=2)[0])


def test_without_rescaling_the_maps_in_training_are_those_of_evaluation() -> None:
    """As MedDINOv3's trainers build their ViT."""
    backbone = random_dino(hidden_size=32, depth=3, heads=2)
    enable_full_finetuning(backbone, FinetuneSettings(rope_rescale=False))
    training = _maps(backbone.train(), seed=1)[0]
    assert torch.equal(training, _maps(backbone.train(), seed=2)[0])
    assert torch.equal(training, _maps(backbone.eval())[0])


def test_the_epsilon_of_every_layer_norm_is_set_and_survives_in_the_description_of_the_backbone() -> None:
    backbone = random_dino(hidden_size=32, depth=3, heads=2)
    enable_full_finetuning(backbone, FinetuneSettings(rope_rescale=False, layer_norm_eps=1e-6))
    rebuilt = build_from_spec(describe_backbone(backbone))
    for network in (backbone, rebuilt):
        norms = [module for module in network.modules() if isinstance(module, torch.nn.LayerNorm)]
        assert len(norms) == 7
        assert {norm.eps for norm in norms} == {1e-6}
    rebuilt.load_state_dict(backbone.state_dict())
    assert torch.equal(rebuilt.eval()(IMAGE)[0], backbone.eval()(IMAGE)[0])
    assert rebuilt.vit.config.pos_embed_rescale is None


def test_without_an_epsilon_the_layer_norms_keep_that_of_dinov3() -> None:
    norms = [module for module in _finetuned().modules() if isinstance(module, torch.nn.LayerNorm)]
    assert {norm.eps for norm in norms} == {1e-5}


def test_a_finetuned_backbone_starts_with_the_maps_of_the_frozen_one() -> None:
    frozen = random_dino(hidden_size=32, depth=3, heads=2)
    assert torch.equal(_finetuned(0.5).eval()(IMAGE)[0], frozen(IMAGE)[0])


# --- Stochastic depth


def test_every_half_of_a_block_can_be_skipped() -> None:
    """With practically all skipped, only the embedding remains: it does not depend on the blocks' weights."""
    backbone = _finetuned(0.999999, norm=False).train()
    before = _maps(backbone)[0]
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if ".layer." in name:
                weight.mul_(2)
    assert torch.equal(before, _maps(backbone)[0])
    assert not torch.equal(before, _maps(backbone.eval())[0])


def test_a_family_without_stochastic_depth_is_refused() -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32)
    backbone = ViT(ViTModel(config, add_pooling_layer=False), identity={})
    with pytest.raises(ConfigError, match=r"drop_path: ViTModel does not support stochastic depth; set it to 0"):
        enable_full_finetuning(backbone, FinetuneSettings(drop_path=0.1))
    enable_full_finetuning(backbone, FinetuneSettings())
    assert backbone.is_finetuned


# --- Gradient checkpointing


def test_gradient_checkpointing_changes_no_gradient_under_stochastic_depth() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        backbone = _finetuned(0.5)
        if checkpointing:
            enable_gradient_checkpointing(backbone)
        count: list[int] = []
        get_transformers_model(backbone).model.layer[0].norm1.register_forward_hook(
            lambda *_, count=count: count.append(1)
        )
        _maps(backbone.train(), seed=5)[0].square().sum().backward()
        gradients.append({name: weight.grad for name, weight in backbone.named_parameters()})
        calls.append(len(count))
    assert calls == [1, 2]
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-5, atol=1e-7)
