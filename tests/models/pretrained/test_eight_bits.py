"""Weights in eight bits."""

import torch

from guidino_cli.models.pretrained.eight_bits import packed, unpacked


def test_a_row_is_kept_to_half_a_step_of_its_own_scale() -> None:
    """Steps are 1.27 / 127 = 0.01 in the first row and 0.1 in the second."""
    weight = torch.tensor([[1.27, 0.503, -0.004], [12.7, -0.26, 0.0]])
    kept = unpacked(packed({"w": weight}))["w"]
    assert torch.allclose(kept, torch.tensor([[1.27, 0.50, 0.0], [12.7, -0.3, 0.0]]), atol=1e-6)


def test_a_matrix_takes_a_byte_a_number_and_four_a_row() -> None:
    tensors = packed({"w": torch.randn(8, 100)})
    assert sum(tensor.nbytes for tensor in tensors.values()) == 8 * 100 + 8 * 4


def test_biases_and_tokens_stay_numbers_of_half_precision() -> None:
    tensors = packed({"bias": torch.tensor([1.5, 2.0]), "token": torch.ones(1, 1, 2)})
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_a_row_of_zeros_stays_zeros() -> None:
    assert torch.equal(unpacked(packed({"w": torch.zeros(2, 3)}))["w"], torch.zeros(2, 3))


def test_kernels_are_scaled_by_their_first_axis() -> None:
    kernel = torch.tensor([1.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    assert torch.allclose(unpacked(packed({"k": kernel}))["k"], kernel)


def test_a_table_has_a_scale_for_each_of_its_rows() -> None:
    positions = torch.tensor([[[1.0, 0.5], [100.0, 50.0]]])
    tensors = packed({"p": positions})
    assert tensors["p.scale"].shape == (2,)
    assert torch.allclose(unpacked(tensors)["p"], positions, rtol=0.01)
