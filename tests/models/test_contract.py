"""What every segmenter promises, checked for each name in the registry."""

from collections.abc import Callable

import pytest
import torch

from guidino_cli.config import ModelSettings
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO

CHANNELS = (1, 3)
DIMS = {name: row.dims for name, row in SEGMENTER_INFO.items()}

Make = Callable[..., Model]


@pytest.fixture
def make(small_model: Callable[[str], ModelSettings]) -> Make:
    def build(name: str, *, num_classes: int = 2, seed: int = 0) -> Model:
        torch.manual_seed(seed)
        return build_model(small_model(name), num_classes=num_classes, dims=DIMS[name])

    return build


def _odd(name: str) -> tuple[int, ...]:
    """No side is a multiple of any stride."""
    return (33, 50) if DIMS[name] == 2 else (9, 17, 19)


def _even(name: str) -> tuple[int, ...]:
    return (64, 64) if DIMS[name] == 2 else (32, 32, 32)


def _tiny(name: str) -> tuple[int, ...]:
    """Smaller than any stride but those of networks without one."""
    return (3, 5, 7)[-DIMS[name] :]


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_finest_logits_have_the_size_of_the_image(name: str, channels: int, make: Make) -> None:
    prediction = make(name)(torch.rand(2, channels, *_odd(name)))
    assert prediction.logits[0].shape == (2, 2, *_odd(name))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_logits_come_finest_first(name: str, make: Make) -> None:
    heights = [logits.shape[-2] for logits in make(name)(torch.rand(2, 3, *_even(name))).logits]
    assert heights == sorted(heights, reverse=True)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_level_has_a_channel_for_each_class(name: str, make: Make) -> None:
    logits = make(name, num_classes=5)(torch.rand(2, 3, *[32] * DIMS[name])).logits
    assert {level.shape[1] for level in logits} == {5}


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_trainable_weight_gets_a_gradient(name: str, channels: int, make: Make) -> None:
    model = make(name)
    torch.stack(
        [level.square().mean() for level in model(torch.rand(2, channels, *_odd(name))).logits]
    ).sum().backward()
    idle = [key for key, weight in model.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not idle


@pytest.mark.parametrize("name", SEGMENTERS)
def test_evaluation_is_deterministic(name: str, make: Make) -> None:
    model, image = make(name).eval(), torch.rand(1, 3, *_odd(name))
    with torch.no_grad():
        assert torch.equal(model(image).logits[0], model(image).logits[0])


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_sample_is_segmented_alike_alone_and_in_a_batch(name: str, make: Make) -> None:
    model, images = make(name).eval(), torch.rand(3, 3, *_odd(name))
    with torch.no_grad():
        torch.testing.assert_close(model(images).logits[0][1:2], model(images[1:2]).logits[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_weights_carry_over_to_a_fresh_model(name: str, make: Make) -> None:
    model, fresh, image = make(name).eval(), make(name, seed=1).eval(), torch.rand(1, 3, *_odd(name))
    with torch.no_grad():
        before = fresh(image).logits[0]
        fresh.load_state_dict(model.state_dict())
        assert not torch.equal(before, fresh(image).logits[0])
        assert torch.equal(model(image).logits[0], fresh(image).logits[0])


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_grey_image_means_the_same_in_one_channel_and_in_three(name: str, make: Make) -> None:
    model, grey = make(name).eval(), torch.rand(1, 1, *_odd(name))
    with torch.no_grad():
        torch.testing.assert_close(model(grey).logits[0], model(grey.expand(-1, 3, *_odd(name))).logits[0])


@pytest.mark.parametrize("name", SEGMENTERS)
def test_an_image_smaller_than_the_stride_is_segmented(name: str, make: Make) -> None:
    assert make(name).eval()(torch.rand(1, 3, *_tiny(name))).logits[0].shape == (1, 2, *_tiny(name))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_batch_of_images_smaller_than_the_stride_can_be_learned_from(name: str, make: Make) -> None:
    loss = torch.stack([level.square().mean() for level in make(name)(torch.rand(2, 3, *_tiny(name))).logits]).sum()
    loss.backward()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("name", SEGMENTERS)
@torch.no_grad()
def test_every_map_of_the_encoder_reaches_the_finest_logits(name: str, make: Make) -> None:
    model, image = make(name).eval(), torch.rand(1, 3, *_even(name))
    dense = [] if model.backbone is None else model.dense_maps(image)
    maps, _ = model.encode(image, dense, None if model.guide is None else model.guide(dense[-1]))
    whole = model.segmenter.decode(maps, _even(name))[0]
    for level, found in enumerate(maps):
        changed = [*maps[:level], found + torch.rand_like(found), *maps[level + 1 :]]
        assert not torch.allclose(model.segmenter.decode(changed, _even(name))[0], whole), f"map {level}"


@pytest.mark.parametrize("name", [name for name, dims in DIMS.items() if dims == 3])
def test_a_network_for_volumes_learns_in_half_precision(name: str, make: Make) -> None:
    model = make(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(torch.rand(2, 3, *_odd(name))).logits
    torch.stack([level.float().square().mean() for level in logits]).sum().backward()
    assert all(torch.isfinite(level).all() for level in logits)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.requires_grad)
