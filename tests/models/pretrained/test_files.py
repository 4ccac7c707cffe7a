"""Weight files: int8 quantisation, and diagnosis of broken or unsafe files."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save, save_file

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.files import check_file, dequantize_int8, quantize_int8, read_tensors


def test_quantisation_errors_are_at_most_half_a_step_of_each_row() -> None:
    """Steps are 1.27 / 127 = 0.01 in the first row and 0.1 in the second."""
    weight = torch.tensor([[1.27, 0.503, -0.004], [12.7, -0.26, 0.0]])
    kept = dequantize_int8(quantize_int8({"w": weight}))["w"]
    assert torch.allclose(kept, torch.tensor([[1.27, 0.50, 0.0], [12.7, -0.3, 0.0]]), atol=1e-6)


def test_a_matrix_takes_one_byte_per_number_and_four_per_row() -> None:
    tensors = quantize_int8({"w": torch.randn(8, 100)})
    assert sum(tensor.nbytes for tensor in tensors.values()) == 8 * 100 + 8 * 4


def test_biases_and_tokens_are_stored_in_half_precision() -> None:
    tensors = quantize_int8({"bias": torch.tensor([1.5, 2.0]), "token": torch.ones(1, 1, 2)})
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}


def test_a_row_of_zeros_stays_zeros() -> None:
    assert torch.equal(dequantize_int8(quantize_int8({"w": torch.zeros(2, 3)}))["w"], torch.zeros(2, 3))


def test_kernels_are_scaled_by_their_first_axis() -> None:
    kernel = torch.tensor([1.0, 100.0]).view(2, 1, 1, 1).expand(2, 3, 2, 2).contiguous()
    assert torch.allclose(dequantize_int8(quantize_int8({"k": kernel}))["k"], kernel)


def test_a_table_has_one_scale_per_row() -> None:
    positions = torch.tensor([[[1.0, 0.5], [100.0, 50.0]]])
    tensors = quantize_int8({"p": positions})
    assert tensors["p.scale"].shape == (2,)
    assert torch.allclose(dequantize_int8(tensors)["p"], positions, rtol=0.01)


TENSORS = {"a": torch.arange(1000.0)}


class Evil:
    """A pickle of it calls a function when it is opened."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return print, ("opened",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:08c6\nsize 86\n",
            "Git LFS pointer.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><body>Log in</body></html>", "web page.*login or has expired"),
        (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "signed link has expired"),
        (b'{"error": "not found"}', "JSON"),
        (b"", "empty file"),
        (b"GIF89a.........", "neither safetensors nor a PyTorch file"),
    ],
)
def test_other_kinds_of_files_are_refused_by_kind(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "dinov3.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        check_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)


def test_a_truncated_safetensors_file_is_refused_with_both_sizes(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.safetensors", save(TENSORS)
    path.write_bytes(whole[:2000])
    with pytest.raises(WeightsError, match=f"truncated .2000 bytes, expected {len(whole)}.; download it again"):
        check_file(path)


def test_a_truncated_pytorch_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(TENSORS, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(WeightsError, match="truncated PyTorch file"):
        check_file(path)


def test_a_short_safetensors_header_is_not_mistaken_for_json(tmp_path: Path) -> None:
    """The header's length is its first byte: 123 is an opening brace."""
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(123)
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 123) + header + struct.pack("<f", 2.5))
    assert read_tensors(path)["a"].tolist() == [2.5]


def test_a_pickle_that_would_run_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"a": torch.zeros(1), "b": Evil()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="could run code"):
        read_tensors(tmp_path / "a.pth")
    assert "opened" not in capsys.readouterr().out


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        check_file(tmp_path / "a.pth")


def test_other_values_beside_tensors_are_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1), "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"tensors only, found others \(epoch\)"):
        read_tensors(tmp_path / "a.pth")


@pytest.mark.parametrize("legacy", [False, True])
def test_safetensors_and_both_pytorch_formats_give_equal_tensors(legacy: bool, tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.pth", _use_new_zipfile_serialization=not legacy)
    save_file(TENSORS, tmp_path / "a.safetensors")
    assert torch.equal(read_tensors(tmp_path / "a.pth")["a"], read_tensors(tmp_path / "a.safetensors")["a"])


def test_pretraining_heads_are_dropped_from_a_teacher_checkpoint(tmp_path: Path) -> None:
    """As MedDINOv3 is published."""
    one = torch.zeros(1)
    teacher = {"backbone.cls_token": one, "dino_head.mlp.0.weight": one, "ibot_head.last_layer.weight": one}
    torch.save({"teacher": teacher}, tmp_path / "model.pth")
    assert set(read_tensors(tmp_path / "model.pth")) == {"cls_token"}


def test_other_tensors_beside_a_backbone_are_kept_for_strict_loading(tmp_path: Path) -> None:
    torch.save({"backbone.cls_token": torch.zeros(1), "decoder.weight": torch.zeros(1)}, tmp_path / "model.pth")
    assert set(read_tensors(tmp_path / "model.pth")) == {"backbone.cls_token", "decoder.weight"}
