"""The Mamba block against that of transformers, and what follows from its being causal."""

import torch
import torch.nn.functional as F
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from guidino_cli.models.mamba import Mamba, fresh_steps


def test_with_the_same_weights_it_is_the_block_of_transformers() -> None:
    torch.manual_seed(0)
    mixer = MambaMixer(MambaConfig(hidden_size=24, state_size=16, conv_kernel=4, expand=2), layer_idx=0).eval()
    block = Mamba(24).eval()
    block.load_state_dict(mixer.state_dict())
    tokens = torch.randn(2, 40, 24)
    with torch.no_grad():
        torch.testing.assert_close(block(tokens), mixer(tokens), rtol=1e-4, atol=1e-5)


def test_a_block_of_512_channels_has_1_694_720_weights() -> None:
    """In 512 x 2048, convolution 1024 x 5, 1024 x 64, 32 x 1024 + 1024, A 1024 x 16, D 1024, out 1024 x 512."""
    with torch.device("meta"):
        assert sum(weight.numel() for weight in Mamba(512).parameters()) == 1_694_720


def test_a_token_sees_itself_and_those_before_it() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(1, 30, 16, requires_grad=True)
    Mamba(16)(tokens)[0, 20].sum().backward()
    assert tokens.grad is not None
    seen = tokens.grad[0].abs().amax(dim=1) > 0
    assert seen.tolist() == [t <= 20 for t in range(30)]


def test_fresh_steps_lie_between_a_thousandth_and_a_tenth() -> None:
    steps = F.softplus(fresh_steps(2000))
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 1e-1 * 1.001
    # Evenly on a logarithmic scale: the geometric mean is a hundredth.
    assert 0.009 < steps.log().mean().exp() < 0.011


def test_every_weight_gets_a_gradient() -> None:
    block = Mamba(8)
    block(torch.randn(2, 9, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())
