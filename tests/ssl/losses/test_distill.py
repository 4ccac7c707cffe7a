"""The loss between the tokens of student and teacher, on paper."""

import pytest
import torch

from guidino_cli.ssl.losses.distill import cosine_distance

RIGHT = torch.tensor([[[1.0, 0.0]]])
UP = torch.tensor([[[0.0, 1.0]]])


def test_tokens_of_the_same_direction_are_at_distance_zero_whatever_their_length() -> None:
    assert cosine_distance(3 * RIGHT, RIGHT).item() == pytest.approx(0)


def test_tokens_at_a_right_angle_are_at_distance_one() -> None:
    assert cosine_distance(UP, RIGHT).item() == pytest.approx(1)


def test_opposite_tokens_are_at_distance_two() -> None:
    assert cosine_distance(-RIGHT, RIGHT).item() == pytest.approx(2)


def test_distances_are_averaged_over_all_tokens() -> None:
    student, teacher = torch.cat([RIGHT, UP], dim=1), torch.cat([RIGHT, RIGHT], dim=1)
    assert cosine_distance(student, teacher).item() == pytest.approx(0.5)


def test_directions_are_seen_from_the_centre() -> None:
    """From (1, 1), the student at (2, 1) lies to the right and the teacher at (1, 3) above: a right angle."""
    student, teacher = torch.tensor([[2.0, 1.0]]), torch.tensor([[1.0, 3.0]])
    assert cosine_distance(student, teacher, torch.tensor([1.0, 1.0])).item() == pytest.approx(1)


def test_a_student_that_gives_the_centre_everywhere_is_at_distance_one() -> None:
    centre = torch.tensor([5.0, 5.0])
    teacher = centre + torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    assert cosine_distance(centre.expand(3, 2), teacher, centre).item() == pytest.approx(1)


def test_no_gradient_flows_to_the_teacher() -> None:
    student, teacher = UP.clone().requires_grad_(), RIGHT.clone().requires_grad_()
    cosine_distance(student, teacher).backward()
    assert teacher.grad is None
    # d/dx of 1 - cos at a right angle is -y / |x|.
    assert torch.allclose(student.grad, -RIGHT)


def test_tokens_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 1, 2\) and \(1, 2, 2\)"):
        cosine_distance(UP, torch.zeros(1, 2, 2))
