"""What the projection module computes."""

import torch

from guidino_cli.models.segmenters.dino_unet.fapm import FAPM, _Excitation, _Modulation


def test_the_context_scales_and_shifts_a_scales_own_projection() -> None:
    """Of context c and own projection z, a generator that says (2 c, c + 1) makes 2 c z + c + 1."""
    modulation = _Modulation(1, 1)
    with torch.no_grad():
        modulation.specific.weight.fill_(3.0)
        modulation.specific.bias.zero_()
        modulation.generate.weight.copy_(torch.tensor([2.0, 1.0]).view(2, 1, 1, 1))
        modulation.generate.bias.copy_(torch.tensor([0.0, 1.0]))
    item, context = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2), torch.tensor([5.0, -1.0]).view(1, 1, 1, 2)
    torch.testing.assert_close(modulation(item, context).flatten(), torch.tensor([36.0, -12.0]))


def test_excitation_weighs_a_channel_by_a_sigmoid_of_what_channels_are_on_average() -> None:
    """Channel means 1 and 3; the hidden unit is their sum 4, of which the weights are sigmoid(4) and sigmoid(-4)."""
    excite = _Excitation(2)
    with torch.no_grad():
        excite.squeeze.weight.fill_(1.0)
        excite.weigh.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
        for layer in (excite.squeeze, excite.weigh):
            layer.bias.zero_()
    x = torch.tensor([[0.0, 2.0], [2.0, 4.0]]).view(1, 2, 1, 2)
    weight = torch.tensor([4.0, -4.0]).sigmoid().view(1, 2, 1, 1)
    torch.testing.assert_close(excite(x), x * weight)


def test_every_scale_gets_its_own_width_and_keeps_its_grid() -> None:
    fapm = FAPM(8, (4, 6), kind="film", rank=16)
    shapes = [item.shape for item in fapm([torch.rand(2, 8, 4, 6), torch.rand(2, 8, 2, 3)])]
    assert shapes == [(2, 4, 4, 6), (2, 6, 2, 3)]


def test_a_width_that_is_the_rank_needs_no_projected_shortcut() -> None:
    fapm = FAPM(8, (4, 16), kind="film", rank=16)
    assert [isinstance(item.shortcut, torch.nn.Identity) for item in fapm.refine] == [False, True]


def test_lowrank_has_the_shared_projection_alone() -> None:
    fapm = FAPM(8, (4, 16), kind="lowrank", rank=16)
    assert fapm.modulate is None
    assert all(item.shortcut is None for item in fapm.refine)
