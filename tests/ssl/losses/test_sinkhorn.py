"""What a teacher's scores become when every prototype gets its part of the batch."""

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidino_cli.ssl.losses.sinkhorn import sinkhorn


def _scores(rows: int = 6, prototypes: int = 4) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(2))


def test_every_row_sums_to_one() -> None:
    torch.testing.assert_close(sinkhorn(_scores(), temperature=0.5).sum(dim=1), torch.ones(6))


def test_after_many_iterations_every_prototype_has_the_same_part() -> None:
    shares = sinkhorn(_scores(), temperature=0.5, iterations=200)
    torch.testing.assert_close(shares.sum(dim=0), torch.full((4,), 6 / 4), atol=1e-4, rtol=0)


def test_equal_scores_give_uniform_targets() -> None:
    torch.testing.assert_close(sinkhorn(torch.full((3, 5), 7.0), temperature=0.04), torch.full((3, 5), 0.2))


def test_one_iteration_on_two_rows_is_that_of_paper_and_pencil() -> None:
    # exp(s) = [[1, 3], [1, 1]]; columns / sums: [[1/2, 3/4], [1/2, 1/4]]; rows / sums: [[2/5, 3/5], [2/3, 1/3]].
    scores = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    expected = torch.tensor([[2 / 5, 3 / 5], [2 / 3, 1 / 3]])
    torch.testing.assert_close(sinkhorn(scores, temperature=1.0, iterations=1), expected)


def test_a_popular_prototype_is_held_back() -> None:
    scores = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    plain = torch.softmax(scores, dim=1)[2, 1]
    assert sinkhorn(scores, temperature=1.0)[2, 1] > 2 * plain


def test_scores_that_would_overflow_are_balanced_too() -> None:
    shares = sinkhorn(torch.tensor([[1000.0, 0.0], [0.0, 1000.0]]), temperature=0.04)
    torch.testing.assert_close(shares, torch.eye(2))


def test_a_row_far_below_the_others_counts_where_tiny_numbers_are_flushed_to_zero() -> None:
    torch.set_flush_denormal(True)
    try:
        shares = sinkhorn(torch.tensor([[1000.0, 1000.0], [0.0, 0.0]]), temperature=0.04)
    finally:
        torch.set_flush_denormal(False)
    torch.testing.assert_close(shares, torch.full((2, 2), 0.5))


def test_no_rows_give_no_targets() -> None:
    assert sinkhorn(torch.zeros(0, 4), temperature=0.1).shape == (0, 4)


def _share(rank: int, place: str, rows: list[int]) -> None:
    """One of two processes: balance its rows of the scores, and write down what it gets."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=2)
    torch.save(sinkhorn(_scores()[rows], temperature=0.5), f"{place}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.parametrize("cut", [3, 1])
def test_two_processes_with_parts_of_the_batch_get_what_one_gets(tmp_path: Path, cut: int) -> None:
    context = multiprocessing.get_context("fork")
    parts = [list(range(cut)), list(range(cut, 6))]
    processes = [context.Process(target=_share, args=(rank, str(tmp_path), part)) for rank, part in enumerate(parts)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    together = torch.cat([torch.load(tmp_path / f"{rank}.pt") for rank in range(2)])
    torch.testing.assert_close(together, sinkhorn(_scores(), temperature=0.5))
