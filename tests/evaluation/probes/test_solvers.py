"""Solvers of probes against independent implementations: scikit-learn, ten lines of NumPy, autograd."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from guidino_cli.errors import ConfigError
from guidino_cli.evaluation.probes import gradient
from guidino_cli.evaluation.probes.exact import C_VALUES, fit_path, solve_exact
from guidino_cli.evaluation.probes.gradient import gradient_share, solve_paper, solve_sweep
from guidino_cli.evaluation.probes.neighbours import choose_k, neighbour_scores, solve_neighbours
from guidino_cli.evaluation.probes.problem import ProbeProblem, log_loss, macro_auc


def _problem(*, classes: int = 2, multilabel: bool = False, val: bool = True, seed: int = 0) -> ProbeProblem:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(classes, 6))

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        if multilabel:
            labels = (generator.random((count, classes)) < 0.4).astype(np.int64)
            vectors = labels @ centres + generator.normal(size=(count, 6))
        else:
            own = generator.integers(0, classes, count)
            labels = (own[:, None] == np.arange(classes)).astype(np.int64)
            vectors = centres[own] + generator.normal(size=(count, 6))
        return vectors.astype(np.float32), labels

    (train, train_labels), (held, held_labels), (test, _) = draw(120), draw(60), draw(40)
    count = 60 if val else 0
    return ProbeProblem(
        train, train_labels, held[:count], held_labels[:count], test, np.arange(120) % 5, multilabel, seed
    )


def test_the_exact_solution_is_that_of_another_solver_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    problem = _problem()
    table = StandardScaler().fit_transform(problem.train.astype(np.float64))
    for value, found in zip(C_VALUES, fit_path(problem.train, problem.train_labels, is_multilabel=False), strict=True):
        other = LogisticRegression(C=value, solver="newton-cholesky", tol=1e-10, max_iter=1000)
        other.fit(table, problem.train_labels[:, 1])
        np.testing.assert_allclose(found.weights[1], other.coef_[0], atol=1e-4)
        assert found.bias[1] == pytest.approx(other.intercept_[0], abs=1e-4)
        assert found.is_converged


def test_more_dimensions_than_samples_have_the_solution_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    vectors = np.random.default_rng(0).normal(size=(30, 90))
    labels = (np.arange(30) % 2)[:, None] == np.arange(2)
    (found,) = fit_path(vectors, labels.astype(np.int64), is_multilabel=False, values=(0.1,))
    table = StandardScaler().fit_transform(vectors)
    other = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(table, labels[:, 1])
    np.testing.assert_allclose(found.weights[1], other.coef_[0], atol=1e-4)


def test_scores_of_three_classes_are_those_of_softmax_regression() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    problem = _problem(classes=3)
    scaler = StandardScaler().fit(problem.train.astype(np.float64))
    other = LogisticRegression(C=C_VALUES[6], tol=1e-10, max_iter=10_000)
    other.fit(scaler.transform(problem.train), problem.train_labels.argmax(axis=1))
    found = fit_path(problem.train, problem.train_labels, is_multilabel=False)[6].scores(problem.test)
    np.testing.assert_allclose(found, other.predict_proba(scaler.transform(problem.test)), atol=1e-4)


def test_samples_whose_labels_are_unknown_change_no_vote() -> None:
    problem = _problem(classes=3, multilabel=True)
    more = ProbeProblem(
        np.concatenate([problem.train, problem.train[:10] * 3]),
        np.concatenate([problem.train_labels, np.full((10, 3), -1)]),
        problem.val, problem.val_labels, problem.test, np.arange(130) % 5, True, 0,
    )  # fmt: skip
    np.testing.assert_array_equal(solve_neighbours(problem, 7).test, solve_neighbours(more, 7).test)


def test_a_label_unknown_everywhere_but_in_some_rows_is_learned_from_those() -> None:
    problem = _problem(classes=2, multilabel=True)
    labels = problem.train_labels.copy()
    labels[60:, 1] = -1
    whole = fit_path(problem.train, labels, is_multilabel=True, values=(0.1,))[0]
    from sklearn.linear_model import LogisticRegression

    table = (problem.train.astype(np.float64) - whole.mean) / whole.std
    other = LogisticRegression(C=0.1, tol=1e-10, max_iter=10_000).fit(table[:60], labels[:60, 1])
    np.testing.assert_allclose(whole.weights[1], other.coef_[0], atol=1e-4)


def test_a_constant_label_scores_its_share() -> None:
    problem = _problem(classes=2, multilabel=True)
    labels = problem.train_labels.copy()
    labels[:, 0] = 1
    scores = fit_path(problem.train, labels, is_multilabel=True, values=(1.0,))[0].scores(problem.test)
    np.testing.assert_allclose(scores[:, 0], 1.0, atol=1e-5)


def test_a_fold_may_hold_all_of_a_class() -> None:
    whole = _problem(val=False)
    # All of the second class are of one patient, whose fold leaves the first class alone.
    order = whole.train_labels[:, 1].argsort(kind="stable")
    train, labels = whole.train[order], whole.train_labels[order]
    count = int(labels[:, 1].sum())
    inner = np.concatenate([np.arange(120 - count) % 4, np.full(count, 4)])
    fit = solve_exact(replace(whole, train=train, train_labels=labels, inner=inner))
    np.testing.assert_array_equal(fit.val[labels[:, 1] == 1], [[1.0, 0.0]] * count)
    assert fit.test[:, 1].std() > 0.1


def test_the_paper_recipe_makes_fifty_steps_on_776_images_and_has_not_converged() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(776, 8)).astype(np.float32)
    labels = (np.arange(776) % 2)[:, None] == np.arange(2)
    fit = solve_paper(
        ProbeProblem(vectors + 0.5 * labels[:, :1], labels.astype(np.int64), vectors[:0], labels[:0].astype(np.int64),
                     vectors, np.zeros(776), False, 0)
    )  # fmt: skip
    assert not fit.is_converged
    assert fit.remark.startswith("50 steps, gradient at ")


@pytest.mark.parametrize(("classes", "independent"), [(1, True), (3, True), (4, False)])
def test_the_gradient_is_that_of_autograd(classes: int, independent: bool) -> None:
    torch.manual_seed(0)
    vectors, weight, bias = torch.randn(50, 5), torch.randn(classes, 5), torch.randn(classes)
    labels = torch.randint(0, 2, (50, classes)) if independent else torch.eye(4, dtype=torch.long)[torch.arange(50) % 4]
    if classes == 3:
        labels[::3, 1] = -1

    def length(at: torch.Tensor, offset: torch.Tensor) -> float:
        at, offset = at.clone().requires_grad_(), offset.clone().requires_grad_()
        logits = vectors @ at.T + offset
        if independent:
            known = labels >= 0
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[known], labels[known].float())
        else:
            loss = torch.nn.functional.cross_entropy(logits, labels.argmax(dim=1))
        loss.backward()
        return float(torch.cat([at.grad.flatten(), offset.grad]).norm())

    expected = length(weight, bias) / length(torch.zeros_like(weight), torch.zeros_like(bias))
    assert gradient_share(weight, bias, vectors, labels, independent=independent) == pytest.approx(expected, rel=1e-4)


def test_the_sweep_takes_each_rate_as_a_network_of_its_own_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "SWEEP_STEPS", 30)
    problem = _problem(classes=3)
    vectors, labels = torch.from_numpy(problem.train), torch.from_numpy(problem.train_labels)
    weights, biases = gradient._descend(vectors, labels, independent=False, seed=3)
    generator = torch.Generator().manual_seed(3)
    layer = torch.nn.Linear(6, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(3, 6, generator=generator) * 0.01)
        layer.bias.zero_()
    rate = gradient.SWEEP_RATES[9] * 128 / 256
    optimizer = torch.optim.SGD(layer.parameters(), lr=rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(30):
        while len(order) < 120:
            order = torch.cat([order, torch.randperm(120, generator=generator)])
        batch, order = order[:128], order[128:]
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(layer(vectors[batch]), labels[batch].argmax(dim=1)).backward()
        optimizer.step()
        schedule.step()
    torch.testing.assert_close(weights[9], layer.weight.detach(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(biases[9], layer.bias.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("val", [True, False])
def test_every_solver_finds_what_is_there(val: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient, "SWEEP_STEPS", 300)
    problem = _problem(classes=3, val=val)
    for solve in (solve_exact, solve_sweep, lambda item: solve_neighbours(item, 10)):
        fit = solve(problem)
        assert macro_auc(fit.val, fit.val_labels) > 0.8
        np.testing.assert_allclose(fit.test.sum(axis=1), 1.0, atol=1e-6)


def test_neighbours_vote_as_ten_lines_of_numpy_say() -> None:
    problem = _problem(classes=3)
    found = neighbour_scores(problem.train, problem.train_labels, problem.test, 10)
    for query, scores in zip(problem.test.astype(np.float64), found, strict=True):
        cosines = [
            float(row @ query / np.linalg.norm(row) / np.linalg.norm(query)) for row in problem.train.astype(np.float64)
        ]
        order = sorted(range(len(cosines)), key=lambda place: (-cosines[place], place))[:10]
        votes = np.exp(np.array(cosines)[order] / 0.07)
        expected = np.zeros(3)
        for vote, place in zip(votes / votes.sum(), order, strict=True):
            expected[problem.train_labels[place].argmax()] += vote
        np.testing.assert_allclose(scores, expected, atol=1e-9)


def test_of_equally_near_neighbours_the_earlier_one_votes() -> None:
    train = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]])
    labels = np.array([[0, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(neighbour_scores(train, labels, np.array([[3.0, 0.0]]), 1), [[0, 1]])


def test_a_k_above_the_samples_is_refused_if_it_was_typed_and_left_out_if_not() -> None:
    with pytest.raises(ConfigError, match=r"--k 500: the training part has 100 samples; give 100 or less"):
        choose_k([500], 100)
    chosen, notes = choose_k(None, 60)
    assert chosen == [10, 20]
    assert notes == [
        "k 100, 200 left out: the training part has 60 samples",
        "k 20 is more than a quarter of the 60 training samples: it may do worse",
    ]


def test_log_loss_is_that_of_the_known_labels() -> None:
    scores, labels = np.array([[0.5, 0.25]]), np.array([[1, -1]])
    assert log_loss(scores, labels, is_multilabel=True) == pytest.approx(np.log(2))
    assert log_loss(np.array([[0.75, 0.25]]), np.array([[0, 1]]), is_multilabel=False) == pytest.approx(np.log(4))
