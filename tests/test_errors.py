"""Messages for names that do not exist; memory that ran out, and ranks that were lost."""

import pytest
import torch

from guidino_cli.errors import (
    ResourceError,
    as_user_error,
    closest_names,
    explain_out_of_memory,
    is_lost_rank,
    is_out_of_memory,
    unknown_name,
)

_MANY = [f"kvasir-{letter}net" for letter in "abcdefghijklm"]


def test_a_short_list_of_names_is_printed_in_full() -> None:
    assert unknown_name("size", "smal", ["small", "base"], lister="guidino x") == (
        "unknown size 'smal'; did you mean 'small'? (known: base, small)"
    )


def test_a_long_list_is_replaced_by_three_names_and_the_command_that_lists_all() -> None:
    line = unknown_name("preset", "kvasir-aanet", _MANY, lister="guidino presets")
    assert line.startswith("unknown preset 'kvasir-aanet'; did you mean 'kvasir-anet', '")
    assert line.endswith("'? (`guidino presets` lists all)")
    assert line.count("net'") == 4


def test_a_long_list_without_such_a_command_is_printed_in_full() -> None:
    assert all(name in unknown_name("metric", "x", _MANY) for name in _MANY)


def test_a_name_with_all_the_words_comes_before_one_of_similar_spelling() -> None:
    assert closest_names("size", ["resize", "image_size", "seed"], count=2) == ["image_size", "resize"]


@pytest.mark.parametrize("name", ["x", "--", "肝臓"])
def test_a_name_unlike_any_other_has_no_suggestion(name: str) -> None:
    assert closest_names(name, ["image_size", "resize"]) == []


# --- What libraries say when memory runs out, word for word


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        # Whatever torch writes, its class tells.
        torch.OutOfMemoryError("tried to allocate more than there is"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_memory_that_ran_out_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)
    known = as_user_error(error)
    assert known is not None
    assert known.exit_code == 7
    with pytest.raises(ResourceError, match=r"; do less$"), explain_out_of_memory("do less"):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED; check memory format"),
        ValueError("out of memory"),
    ],
)
def test_other_errors_that_mention_memory_are_bugs(error: Exception) -> None:
    assert not is_out_of_memory(error)
    assert as_user_error(error) is None
    with pytest.raises(type(error)), explain_out_of_memory("do less"):
        raise error


@pytest.mark.parametrize(
    ("error", "is_lost"),
    [
        (RuntimeError("[/pytorch/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:21"), True),
        (RuntimeError("[../gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1000ms for recv"), True),
        (torch.distributed.DistBackendError("NCCL error: remote process exited or there was a network error"), True),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("Connection closed by peer"), False),
    ],
)
def test_the_loss_of_another_rank_is_told_from_a_bug(error: Exception, is_lost: bool) -> None:
    assert is_lost_rank(error) == is_lost
