"""A backbone that learns whole: what gets a gradient, what follows the mode, what is left out at random."""

import pytest
import torch

from guidino_cli.config import FinetuneSettings, ModelSettings, Part
from guidino_cli.errors import ConfigError
from guidino_cli.models import build_model
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.backbones.vit import ViT
from guidino_cli.models.finetune import checkpoint_blocks, pretrained, train_whole

IMAGE = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


def _whole(drop_path: float = 0.0, **options: object) -> ViT:
    backbone = random_dino(hidden_size=32, depth=3, heads=2, **options)  # type: ignore[arg-type]
    train_whole(backbone, FinetuneSettings(drop_path=drop_path))
    return backbone


def _maps(backbone: ViT, *, seed: int = 0) -> list[torch.Tensor]:
    torch.manual_seed(seed)
    return backbone(IMAGE)


# --- What learns


@pytest.mark.parametrize("options", [{}, {"layers": [1, 2]}, {"norm": False}])
def test_every_weight_that_learns_gets_a_gradient_and_the_mask_token_does_not_learn(options: dict) -> None:
    backbone = _whole(**options).train()
    torch.stack([level.square().sum() for level in _maps(backbone)]).sum().backward()
    learning = {name for name, weight in backbone.named_parameters() if weight.requires_grad}
    assert learning == {name for name, weight in backbone.named_parameters() if weight.grad is not None}
    idle = {name for name, _ in backbone.named_parameters()} - learning
    norm = set() if options.get("norm", True) else {"vit.norm.weight", "vit.norm.bias"}
    assert idle == {"vit.embeddings.mask_token"} | norm


def test_a_backbone_in_half_precision_learns_in_full() -> None:
    backbone = random_dino(hidden_size=32, depth=1, heads=2).to(torch.bfloat16)
    train_whole(backbone, FinetuneSettings())
    assert {weight.dtype for weight in backbone.parameters()} == {torch.float32}


def test_frozen_again_it_is_as_any_frozen_backbone() -> None:
    backbone = _whole(0.5).train()
    backbone.freeze()
    assert not any(module.training for module in backbone.train().modules())
    assert not any(weight.requires_grad for weight in backbone.parameters())
    assert not _maps(backbone)[0].requires_grad
    assert not backbone.is_whole


def test_a_model_is_built_with_a_backbone_that_learns() -> None:
    settings = ModelSettings(
        Part("segdino"),
        Part("random", {"hidden_size": 32, "depth": 4, "heads": 2, "layers": [1, 2, 3, 4]}),
        finetune=FinetuneSettings(),
    )
    model = build_model(settings, num_classes=2)
    model(IMAGE).logits[0].square().mean().backward()
    idle = [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle
    assert any(weight.requires_grad for weight in model.backbone.parameters())  # type: ignore[union-attr]


def test_layer_scales_begin_at_what_is_asked_for() -> None:
    vit = pretrained(random_dino(hidden_size=32, depth=1, heads=2, layer_scale=1e-5))
    block = vit.model.layer[0]
    assert torch.equal(block.layer_scale1.lambda1, torch.full((32,), 1e-5))
    assert torch.equal(block.layer_scale2.lambda1, torch.full((32,), 1e-5))


# --- The mode


def test_in_training_position_codes_are_rescaled_at_random_as_in_dinov3_and_in_evaluation_not() -> None:
    backbone = _whole().train()
    assert not torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=2)[0])
    assert torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=1)[0])
    backbone.eval()
    assert torch.equal(_maps(backbone, seed=1)[0], _maps(backbone, seed=2)[0])


def test_what_learns_is_at_first_what_was_frozen() -> None:
    frozen = random_dino(hidden_size=32, depth=3, heads=2)
    assert torch.equal(_whole(0.5).eval()(IMAGE)[0], frozen(IMAGE)[0])


# --- Blocks left out


def test_every_half_of_a_block_may_be_left_out() -> None:
    """With all but never kept, what remains is the embedding: it does not depend on the blocks' weights."""
    backbone = _whole(0.999999, norm=False).train()
    before = _maps(backbone)[0]
    with torch.no_grad():
        for name, weight in backbone.named_parameters():
            if ".layer." in name:
                weight.mul_(2)
    assert torch.equal(before, _maps(backbone)[0])
    assert not torch.equal(before, _maps(backbone.eval())[0])


def test_a_family_whose_blocks_cannot_be_left_out_is_refused() -> None:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, image_size=32)
    backbone = ViT(ViTModel(config, add_pooling_layer=False), identity={})
    with pytest.raises(ConfigError, match=r"finetune\.drop_path: ViTModel has no blocks .* set it to 0"):
        train_whole(backbone, FinetuneSettings(drop_path=0.1))
    train_whole(backbone, FinetuneSettings())
    assert backbone.is_whole


# --- Checkpointing


def test_checkpointing_changes_no_gradient_though_blocks_are_left_out_at_random() -> None:
    gradients, calls = [], []
    for checkpointing in (False, True):
        backbone = _whole(0.5)
        if checkpointing:
            checkpoint_blocks(backbone)
        count: list[int] = []
        pretrained(backbone).model.layer[0].norm1.register_forward_hook(lambda *_, count=count: count.append(1))
        _maps(backbone.train(), seed=5)[0].square().sum().backward()
        gradients.append({name: weight.grad for name, weight in backbone.named_parameters()})
        calls.append(len(count))
    assert calls == [1, 2]
    for name, value in gradients[0].items():
        torch.testing.assert_close(value, gradients[1][name], rtol=1e-5, atol=1e-7)
