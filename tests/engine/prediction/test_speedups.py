"""Inference speed-ups change scores by rounding only."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from guidino_cli.config import ComponentSettings, ModelSettings, parse_config
from guidino_cli.engine.prediction.speedups import fold_normalisation, prepare_for_prediction, use_onednn_kernels
from guidino_cli.models import build_model


def _randomize(network: nn.Module) -> None:
    """Give statistics and weights values as after training; with the initial ones folding would change nothing."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)


@pytest.mark.parametrize("name", ["unet", "nnwnet", "nnunet"])
@torch.no_grad()
def test_prepared_models_give_the_same_scores_but_for_rounding(name: str) -> None:
    settings = {"model": {"segmenter": {"name": name, "options": {"width": 8} if name != "nnunet" else {}}}}
    model = build_model(parse_config(settings).model, num_classes=3).eval()
    _randomize(model)
    image = torch.rand(2, 3, 64, 64)
    before = model(image).logits[0]
    after = prepare_for_prediction(model)(image).logits[0]
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


@torch.no_grad()
def test_a_folded_block_has_no_normalisation_left_and_the_same_result() -> None:
    """Weight 2 on ones, mean 1, variance 4: (2 x - 1) / 2 (but for eps), then times 3, plus 5."""
    block = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.BatchNorm2d(1, eps=0)).eval()
    block[0].weight.fill_(2.0)
    norm = block[1]
    norm.running_mean.fill_(1.0)
    norm.running_var.fill_(4.0)
    norm.weight.fill_(3.0)
    norm.bias.fill_(5.0)
    assert fold_normalisation(block) == 1
    assert isinstance(block[1], nn.Identity)
    torch.testing.assert_close(block(torch.full((1, 1, 1, 1), 7.0)), torch.full((1, 1, 1, 1), 24.5))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch chooses kernels by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _channels_last(channels: int) -> Tensor:
    torch.manual_seed(2)
    return torch.randn(2, channels, 5, 7).to(memory_format=torch.channels_last)


@torch.no_grad()
def test_gelu_of_a_map_in_channels_last_order_is_gelu_and_stays_in_that_order() -> None:
    image = _channels_last(4)
    result = use_onednn_kernels(nn.GELU())(image)
    torch.testing.assert_close(result, image * 0.5 * (1 + torch.erf(image / 2**0.5)), rtol=0, atol=2e-6)
    assert result.is_contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def test_a_pointwise_convolution_is_a_product_over_channels(one_thread: None) -> None:
    conv, image = nn.Conv2d(3, 4, 1, stride=2), _channels_last(3)
    expected = torch.einsum("oc,bchw->bohw", conv.weight[:, :, 0, 0], image[..., ::2, ::2]) + conv.bias[:, None, None]
    torch.testing.assert_close(use_onednn_kernels(conv)(image), expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="no oneDNN")
@torch.no_grad()
def test_one_thread_leaves_no_pointwise_convolution_to_the_slow_kernel(one_thread: None) -> None:
    conv, image = nn.Conv2d(3, 4, 1), _channels_last(3)
    assert "aten::_slow_conv2d_forward" in _operations(conv, image)
    assert "aten::_slow_conv2d_forward" not in _operations(use_onednn_kernels(conv), image)


def _operations(network: nn.Module, image: Tensor) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        network(image)
    return {event.key for event in profiler.key_averages()}


@torch.no_grad()
def test_a_prepared_network_for_volumes_gives_the_same_scores_but_for_rounding() -> None:
    torch.manual_seed(0)
    settings = ModelSettings(ComponentSettings("nnwnet3d", {"widths": [4, 4, 8, 8, 8]}))
    model, volume = build_model(settings, num_classes=2, dims=3), torch.rand(2, 3, 16, 16, 32)
    # Statistics that a norm does not begin with.
    model(volume)
    expected = model.eval()(volume).logits[0]
    norms = sum(isinstance(module, nn.BatchNorm3d) for module in model.modules())
    prepared = prepare_for_prediction(model)
    assert norms > 20
    assert not any(isinstance(module, nn.BatchNorm3d) for module in prepared.modules())
    torch.testing.assert_close(prepared(volume).logits[0], expected, rtol=1e-4, atol=1e-4)
