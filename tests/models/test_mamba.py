"""The Mamba block against transformers' and the selective scan against its recurrence."""

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import MambaConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from guidino_cli.errors import DependencyError
from guidino_cli.models import mamba as module
from guidino_cli.models.mamba import Mamba, fused_kernel, init_dt_bias, selective_scan


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
    steps = F.softplus(init_dt_bias(2000))
    assert steps.min() >= 1e-3 * 0.999
    assert steps.max() <= 1e-1 * 1.001
    # Evenly on a logarithmic scale: the geometric mean is a hundredth.
    assert 0.009 < steps.log().mean().exp() < 0.011


def test_every_weight_gets_a_gradient() -> None:
    block = Mamba(8)
    block(torch.randn(2, 9, 8)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in block.parameters())


Inputs = tuple[Tensor, ...]
# One token; a chunk; a chunk and one; a piece; two pieces and a part of a third.
LENGTHS = (1, 16, 17, 512, 1100)


def _inputs(length: int, *, groups: int = 1, kind: torch.dtype = torch.float64, each: int = 3, n: int = 4) -> Inputs:
    """u, delta, A, B, C, D, bias: steps of softplus(N(0, 1)), rates of -1 to -4."""
    torch.manual_seed(length)
    e = groups * each
    u, delta = torch.randn(2, e, length, dtype=kind), torch.randn(2, e, length, dtype=kind)
    rates = -torch.arange(1, n + 1, dtype=kind).repeat(e, 1)
    enter, read = (torch.randn(2, groups, n, length, dtype=kind) for _ in range(2))
    return u, delta, rates, enter, read, torch.randn(e, dtype=kind), torch.randn(e, dtype=kind)


def _scan(inputs: Inputs) -> Tensor:
    return selective_scan(*inputs[:-1], delta_bias=inputs[-1])


def _recurrence(inputs: Inputs) -> Tensor:
    """Token by token; every channel with the B and C of its group."""
    u, delta, rates, enter, read, through, bias = inputs
    each = u.shape[1] // enter.shape[1]
    enter, read = (x.repeat_interleave(each, dim=1) for x in (enter, read))
    steps = torch.nn.functional.softplus(delta + bias[:, None])
    h, ys = torch.zeros(*u.shape[:2], rates.shape[1], dtype=u.dtype), []
    for t in range(u.shape[-1]):
        h = torch.exp(steps[..., t, None] * rates) * h + (steps * u)[..., t, None] * enter[..., t]
        ys.append((h * read[..., t]).sum(-1) + through * u[..., t])
    return torch.stack(ys, dim=-1)


@pytest.mark.parametrize("length", LENGTHS)
def test_the_scan_is_the_recurrence(length: int) -> None:
    inputs = _inputs(length)
    torch.testing.assert_close(_scan(inputs), _recurrence(inputs), rtol=1e-12, atol=1e-12)


def test_each_group_of_channels_has_its_own_input_and_readout() -> None:
    inputs = _inputs(40, groups=4)
    torch.testing.assert_close(_scan(inputs), _recurrence(inputs), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("which", range(7))
def test_gradients_are_those_of_the_recurrence(which: int) -> None:
    inputs = _inputs(530, groups=2)
    grown = [x.requires_grad_(number == which) for number, x in enumerate(inputs)][which]
    weights = torch.randn(2, 6, 530, dtype=torch.float64)
    (found,) = torch.autograd.grad((_scan(inputs) * weights).sum(), grown)
    (expected,) = torch.autograd.grad((_recurrence(inputs) * weights).sum(), grown)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_a_gradient_does_not_change_the_result() -> None:
    inputs = _inputs(600, kind=torch.float32)
    with torch.no_grad():
        plain = _scan(inputs)
    assert torch.equal(plain, _scan((inputs[0].requires_grad_(), *inputs[1:])).detach())


def test_single_precision_is_near_double_precision() -> None:
    inputs = _inputs(1100)
    single = _scan(tuple(x.float() for x in inputs))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), _recurrence(inputs), rtol=1e-4, atol=1e-4)


def test_half_precision_is_only_that_of_input_and_output() -> None:
    """bfloat16 has eight bits: 1100 states added up in it would be off by far more than one rounding."""
    inputs = tuple(x.bfloat16() if number in {0, 1, 3, 4} else x.float() for number, x in enumerate(_inputs(1100)))
    exact = _recurrence(tuple(x.double() for x in inputs))
    assert _scan(inputs).dtype == torch.bfloat16
    torch.testing.assert_close(_scan(inputs).double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.parametrize("delta", [-60.0, 60.0])
def test_states_that_never_or_at_once_forget_stay_finite_with_finite_gradients(delta: float) -> None:
    inputs = _inputs(600, kind=torch.float32)
    u = inputs[0].requires_grad_()
    steps = torch.full_like(inputs[1], delta).requires_grad_()
    y = selective_scan(u, steps, *inputs[2:-1], delta_bias=torch.zeros(3))
    y.sum().backward()
    assert torch.isfinite(y).all()
    assert u.grad is not None
    assert steps.grad is not None
    assert torch.isfinite(u.grad).all()
    assert torch.isfinite(steps.grad).all()


def test_one_state_that_halves_adds_up_like_a_geometric_series() -> None:
    """softplus(x) = ln 2 at x = 0, A = -1: every step halves the state and adds ln 2 of the input's 1 / ln 2."""
    one = torch.ones(1, 1, 5, dtype=torch.float64)
    y = selective_scan(
        one / torch.tensor(2.0, dtype=torch.float64).log(),
        torch.zeros_like(one),
        -torch.ones(1, 1, dtype=torch.float64),
        one[:, None],
        one[:, None],
        torch.zeros(1, dtype=torch.float64),
        delta_bias=torch.zeros(1, dtype=torch.float64),
    )
    torch.testing.assert_close(y[0, 0], torch.tensor([1, 1.5, 1.75, 1.875, 1.9375], dtype=torch.float64))


class _OnGPU(Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def _stand_in(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False, return_last_state=False):  # type: ignore[no-untyped-def]
    """The signature of mamba_ssm's `selective_scan_fn`, version 2."""
    assert (z, delta_softplus, return_last_state) == (None, True, False)
    plain = tuple(x.as_subclass(Tensor) for x in (u, delta, A, B, C, D, delta_bias))
    return _recurrence(plain)


def test_on_a_gpu_the_fused_kernel_is_given_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fused_kernel", lambda: _stand_in)
    inputs = _inputs(40, groups=2)
    on_gpu = (inputs[0].as_subclass(_OnGPU), *inputs[1:])
    torch.testing.assert_close(_scan(on_gpu).as_subclass(Tensor), _scan(inputs), rtol=1e-12, atol=1e-12)


def test_a_broken_kernel_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = ModuleType("mamba_ssm")
    broken.__path__ = []  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mamba_ssm", broken)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda _: object())
    with pytest.raises(DependencyError, match="mamba_ssm is installed but cannot be imported"):
        fused_kernel.__wrapped__()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("groups", [1, 4])
def test_on_a_gpu_the_scan_is_that_of_the_cpu(groups: int) -> None:
    inputs = _inputs(1100, groups=groups, kind=torch.float32)
    there = _scan(tuple(x.cuda() for x in inputs))
    torch.testing.assert_close(there.cpu(), _scan(inputs), rtol=1e-4, atol=1e-4)
