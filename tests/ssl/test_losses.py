"""Losses of self-supervised learning against closed forms."""

import math
import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from guidino_cli.ssl.losses import (
    cosine_distance,
    dino_loss,
    gram_loss,
    grouped_koleo_loss,
    ibot_loss,
    koleo_loss,
    sinkhorn_knopp,
)


def test_dino_loss_of_a_uniform_student_is_ln_k() -> None:
    targets = torch.softmax(torch.randn(2, 3, 8), dim=-1)
    loss = dino_loss(torch.zeros(4, 3, 8), targets, temperature=0.1, same_views=False)
    assert float(loss) == pytest.approx(math.log(8), abs=1e-5)


def test_dino_loss_of_one_pair_is_the_cross_entropy() -> None:
    # Student [3/4, 1/4] at temperature 1/2: scores ln(3)/2 and 0; target [1/3, 2/3].
    student = torch.tensor([[[0.5 * math.log(3), 0.0]]])
    loss = dino_loss(student, torch.tensor([[[1 / 3, 2 / 3]]]), temperature=0.5, same_views=False)
    assert float(loss) == pytest.approx(-(math.log(3 / 4) / 3 + 2 * math.log(1 / 4) / 3))


def test_dino_loss_skips_pairs_of_a_view_with_itself() -> None:
    # Student view 0 predicts class 0 and is paired with target 1 (class 1), and vice versa: both pairs are wrong.
    sure = 20.0 * torch.eye(2).view(2, 1, 2)
    targets = torch.eye(2).view(2, 1, 2)
    assert float(dino_loss(sure, targets, temperature=1.0, same_views=True)) == pytest.approx(20.0, abs=1e-4)
    assert float(dino_loss(sure, targets, temperature=1.0, same_views=False)) == pytest.approx(10.0, abs=1e-4)


def test_dino_loss_is_minimal_at_the_target() -> None:
    target = torch.tensor([0.7, 0.2, 0.1])
    right = (0.1 * target.log()).view(1, 1, 3)
    entropy = -float((target * target.log()).sum())
    loss = dino_loss(right, target.view(1, 1, 3), temperature=0.1, same_views=False)
    assert float(loss) == pytest.approx(entropy, abs=1e-5)
    assert float(dino_loss(1.2 * right, target.view(1, 1, 3), temperature=0.1, same_views=False)) > entropy


RIGHT = torch.tensor([[[1.0, 0.0]]])
UP = torch.tensor([[[0.0, 1.0]]])


def test_cosine_distance_of_parallel_tokens_is_zero() -> None:
    assert cosine_distance(3 * RIGHT, RIGHT).item() == pytest.approx(0)


def test_cosine_distance_of_orthogonal_tokens_is_one() -> None:
    assert cosine_distance(UP, RIGHT).item() == pytest.approx(1)


def test_cosine_distance_of_opposite_tokens_is_two() -> None:
    assert cosine_distance(-RIGHT, RIGHT).item() == pytest.approx(2)


def test_cosine_distance_is_the_mean_over_all_tokens() -> None:
    student, teacher = torch.cat([RIGHT, UP], dim=1), torch.cat([RIGHT, RIGHT], dim=1)
    assert cosine_distance(student, teacher).item() == pytest.approx(0.5)


def test_cosine_distance_subtracts_the_centre() -> None:
    """From (1, 1), the student at (2, 1) lies to the right and the teacher at (1, 3) above: a right angle."""
    student, teacher = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    assert cosine_distance(student, teacher, torch.tensor([1.0, 1.0])).item() == pytest.approx(1)


def test_cosine_distance_of_a_student_at_the_centre_is_one() -> None:
    centre = torch.tensor([5.0, 5.0])
    teacher = centre + torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert cosine_distance(centre.expand(3, 2), teacher, centre).item() == pytest.approx(1)


def test_no_gradient_flows_to_the_teacher() -> None:
    student, teacher = UP.clone().requires_grad_(), RIGHT.clone().requires_grad_()
    cosine_distance(student, teacher).backward()
    assert teacher.grad is None
    # d/dx of 1 - cos at a right angle is -y / |x|.
    assert torch.allclose(student.grad, -RIGHT)


def test_cosine_distance_refuses_unequal_shapes() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 2\) and \(1, 2, 2\)"):
        cosine_distance(UP, torch.zeros(1, 2, 2))


def test_gram_loss_of_equal_features_is_zero() -> None:
    features = torch.randn(2, 5, 3)
    assert float(gram_loss(features, features)) == pytest.approx(0, abs=1e-12)


def test_gram_loss_ignores_lengths_and_a_common_rotation() -> None:
    features = torch.randn(2, 5, 2)
    turn = torch.tensor([[math.cos(1.0), -math.sin(1.0)], [math.sin(1.0), math.cos(1.0)]])
    assert float(gram_loss(3 * features @ turn, features)) == pytest.approx(0, abs=1e-10)


def test_gram_loss_of_two_patches_by_hand() -> None:
    # Student: at right angles, cosine 0; teacher: 60 degrees, cosine 1/2. Two of four entries differ by 1/2.
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    teacher = torch.tensor([[[1.0, 0.0, 0.0], [0.5, math.sqrt(3) / 2, 0.0]]])
    assert float(gram_loss(student, teacher)) == pytest.approx(2 * 0.25 / 4)


def test_gram_loss_weights_all_images_equally() -> None:
    student = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])
    teacher = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [1.0, 0.0]]])
    assert float(gram_loss(student, teacher)) == pytest.approx((2 / 4 + 0) / 2)


def test_ibot_loss_averages_the_masked_patches_of_each_view() -> None:
    # View 0 hides one patch whose loss is ln 2, view 1 three of which one is right (0) and two are ln 2; two of four
    # views hide none.
    student = torch.tensor([[0.0, 0.0], [100.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0]] * 4)
    weights = torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3])
    loss = ibot_loss(student, targets, weights=weights, views=4, temperature=0.1)
    assert float(loss) == pytest.approx((math.log(2) + 2 / 3 * math.log(2)) / 4)


def test_ibot_loss_of_a_uniform_student_with_half_of_the_views_masked_is_half_of_ln_k() -> None:
    targets = torch.softmax(torch.randn(6, 16), dim=-1)
    weights = torch.tensor([1 / 2, 1 / 2, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    loss = ibot_loss(torch.zeros(6, 16), targets, weights=weights, views=4, temperature=0.1)
    assert float(loss) == pytest.approx(math.log(16) / 2, abs=1e-5)


def test_koleo_loss_of_three_points_on_a_circle_by_hand() -> None:
    # Angles 0, 60 and 180 degrees: distances to the nearest are 1, 1 and 2 sin 60 = sqrt 3; lengths do not count.
    angles = torch.tensor([0.0, math.pi / 3, math.pi])
    points = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.tensor([[1.0], [5.0], [0.1]])
    assert float(koleo_loss(points)) == pytest.approx(-math.log(math.sqrt(3)) / 3, abs=1e-5)


def test_koleo_loss_is_minimal_for_opposite_points() -> None:
    assert float(koleo_loss(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))) == pytest.approx(-math.log(2), abs=1e-5)


def test_koleo_loss_of_equal_points_is_large_but_finite() -> None:
    points = torch.ones(2, 3, requires_grad=True)
    loss = koleo_loss(points)
    loss.backward()
    assert 15 < loss.item() < 25
    assert bool(points.grad.isfinite().all())  # type: ignore[union-attr]


def test_koleo_gradients_drive_neighbours_apart() -> None:
    points = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0]], requires_grad=True)
    koleo_loss(points).backward()
    moved = (points - 0.01 * points.grad).detach()  # type: ignore[operator]
    assert float(koleo_loss(moved)) < float(koleo_loss(points.detach()))


def test_koleo_neighbours_are_searched_within_groups_only() -> None:
    # Two pairs: 60 degrees apart in each, so that distances are 1; the pairs themselves lie on each other.
    angles = torch.tensor([0.0, math.pi / 3, 0.0, math.pi / 3])
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert float(grouped_koleo_loss(points, size=2)) == pytest.approx(0, abs=1e-5)
    assert float(grouped_koleo_loss(points, size=None)) == float(koleo_loss(points)) > 10


def _scores(rows: int = 6, prototypes: int = 4) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(2))


def test_sinkhorn_rows_sum_to_one() -> None:
    torch.testing.assert_close(sinkhorn_knopp(_scores(), temperature=0.5).sum(dim=1), torch.ones(6))


def test_sinkhorn_columns_are_equal_after_many_iterations() -> None:
    shares = sinkhorn_knopp(_scores(), temperature=0.5, iterations=200)
    torch.testing.assert_close(shares.sum(dim=0), torch.full((4,), 6 / 4), atol=1e-4, rtol=0)


def test_koleo_of_equal_features_is_finite() -> None:
    """torch adds 1e-8 to each of four differences of 0, which makes 2e-8, and the loss adds 1e-8 once more."""
    assert float(koleo_loss(torch.ones(2, 4))) == pytest.approx(-math.log(3e-8), rel=1e-4)


def test_sinkhorn_of_equal_scores_is_uniform() -> None:
    torch.testing.assert_close(sinkhorn_knopp(torch.full((3, 5), 7.0), temperature=0.04), torch.full((3, 5), 0.2))


def test_one_sinkhorn_iteration_on_two_rows_by_hand() -> None:
    # exp(s) = [[1, 3], [1, 1]]; columns / sums: [[1/2, 3/4], [1/2, 1/4]]; rows / sums: [[2/5, 3/5], [2/3, 1/3]].
    scores = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    expected = torch.tensor([[2 / 5, 3 / 5], [2 / 3, 1 / 3]])
    torch.testing.assert_close(sinkhorn_knopp(scores, temperature=1.0, iterations=1), expected)


def test_sinkhorn_iterates_three_times_as_dinov2_does() -> None:
    torch.testing.assert_close(
        sinkhorn_knopp(_scores(), temperature=0.5), sinkhorn_knopp(_scores(), temperature=0.5, iterations=3),
        rtol=0, atol=0,
    )  # fmt: skip
    # By hand, exp(s) = [[1, 3], [1, 1]]; the first iteration is that of the test above.
    scores = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])
    columns = [float(sinkhorn_knopp(scores, temperature=1.0, iterations=n)[:, 0].sum()) for n in (1, 3)]
    assert columns[0] == pytest.approx(2 / 5 + 2 / 3)
    # Second iteration: columns divided by 16/15 and 14/15, rows by their sums: [[7/19, 12/19], [7/11, 4/11]];
    # third: by 210/209 and 208/209: [[26/71, 45/71], [26/41, 15/41]].
    assert float(sinkhorn_knopp(scores, temperature=1.0)[0, 0]) == pytest.approx(26 / 71)


def test_sinkhorn_lowers_a_popular_prototype() -> None:
    scores = torch.tensor([[2.0, 0.0], [2.0, 0.0], [1.0, 0.0]])
    plain = torch.softmax(scores, dim=1)[2, 1]
    assert sinkhorn_knopp(scores, temperature=1.0)[2, 1] > 2 * plain


def test_sinkhorn_balances_scores_that_would_overflow() -> None:
    shares = sinkhorn_knopp(torch.tensor([[1000.0, 0.0], [0.0, 1000.0]]), temperature=0.04)
    torch.testing.assert_close(shares, torch.eye(2))


def test_sinkhorn_keeps_rows_far_below_the_others_despite_flush_to_zero() -> None:
    torch.set_flush_denormal(True)
    try:
        shares = sinkhorn_knopp(torch.tensor([[1000.0, 1000.0], [0.0, 0.0]]), temperature=0.04)
    finally:
        torch.set_flush_denormal(False)
    torch.testing.assert_close(shares, torch.full((2, 2), 0.5))


def test_sinkhorn_of_no_rows_is_empty() -> None:
    assert sinkhorn_knopp(torch.zeros(0, 4), temperature=0.1).shape == (0, 4)


def _share(rank: int, place: str, work: str) -> None:
    """One of two processes: compute its part of the work, and write down what it gets."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=2)
    if work == "koleo":
        found = grouped_koleo_loss(torch.tensor([[[3.0, 0.0], [0.0, 2.0]][rank]]), size=2)
    else:
        scores = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]]) if work == "hand" else _scores()
        cut = 3 if work == "halves" else 1
        found = sinkhorn_knopp(scores[:cut] if rank == 0 else scores[cut:], temperature=1.0)
    torch.save(found, f"{place}/{rank}.pt")
    torch.distributed.destroy_process_group()


def _in_two_processes(place: Path, work: str) -> list[Tensor]:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_share, args=(rank, str(place), work)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    return [torch.load(place / f"{rank}.pt") for rank in range(2)]


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_with_a_row_each_balance_them_together(tmp_path: Path) -> None:
    """Three iterations on [[1, 3], [1, 1]], by hand above; alone each row would stay as it is."""
    together = torch.cat(_in_two_processes(tmp_path, "hand"))
    torch.testing.assert_close(together, torch.tensor([[26 / 71, 45 / 71], [26 / 41, 15 / 41]]))


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
@pytest.mark.parametrize("work", ["halves", "one and five"])
def test_two_processes_with_parts_of_the_batch_agree_with_one(tmp_path: Path, work: str) -> None:
    together = torch.cat(_in_two_processes(tmp_path, work))
    torch.testing.assert_close(together, sinkhorn_knopp(_scores(), temperature=1.0, iterations=3))


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_a_koleo_group_may_span_two_processes(tmp_path: Path) -> None:
    """One image each, at right angles: the directions are sqrt(2) apart."""
    assert [float(loss) for loss in _in_two_processes(tmp_path, "koleo")] == pytest.approx([-math.log(2) / 2] * 2)
