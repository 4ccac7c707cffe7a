"""The TokenBook: what the authors' mean can say, and what it provably cannot."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from guidino_cli.errors import ConfigError
from guidino_cli.losses import guide_cross_entropy
from guidino_cli.models import GUIDES
from guidino_cli.models.guides import TokenBook
from guidino_cli.registry import create

AGGREGATES = ("mean", "softmax", "logsumexp")
SIMILARITIES = ("cosine", "dot")


def _book(**options: object) -> TokenBook:
    torch.manual_seed(0)
    return TokenBook(**{"channels": 8, "prototypes": 16, **options})  # type: ignore[arg-type]


def _tokens(batch: int = 2, channels: int = 8, h: int = 3, w: int = 5) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(batch, channels, h, w)


def _identity(book: TokenBook) -> TokenBook:
    """Make the learned 1x1 convolution change nothing."""
    torch.nn.init.dirac_(book.project.weight)
    torch.nn.init.zeros_(book.project.bias)  # type: ignore[arg-type]
    return book


# --- The authors' mean --------------------


def test_the_mean_is_the_mean_of_the_cosines_to_all_prototypes() -> None:
    book, tokens = _book(), _tokens()
    projected = book.project(tokens)
    similarities = torch.stack(
        [F.cosine_similarity(projected, prototype.view(1, -1, 1, 1), dim=1) for prototype in book.book[0]]
    )
    torch.testing.assert_close(book(tokens)[:, 0], 0.5 + 0.5 * similarities.mean(dim=0))


def test_the_mean_of_n_prototypes_is_one_vector() -> None:
    book, tokens = _book(prototypes=256), _tokens()
    summary = F.normalize(book.book[0], dim=1).mean(dim=0)
    cosine = F.cosine_similarity(book.project(tokens), summary.view(1, -1, 1, 1), dim=1)
    torch.testing.assert_close(book(tokens)[:, 0], 0.5 + 0.5 * summary.norm() * cosine)


def test_the_mean_stays_within_half_the_length_of_that_vector_of_one_half() -> None:
    book = _book(prototypes=256)
    length = F.normalize(book.book[0], dim=1).mean(dim=0).norm().item()
    assert length < 0.2
    assert (book(_tokens(batch=50)) - 0.5).abs().max() <= 0.5 * length + 1e-6


def test_learned_weights_weigh_the_prototypes() -> None:
    book, tokens = _book(prototypes=2, learned_weights=True), _tokens()
    with torch.no_grad():
        book.weights.copy_(torch.tensor([[30.0, -30.0]]))
    cosine = F.cosine_similarity(book.project(tokens), book.book[0, 0].view(1, -1, 1, 1), dim=1)
    torch.testing.assert_close(book(tokens)[:, 0], 0.5 + 0.5 * cosine)


def test_a_token_equal_to_the_only_prototype_gives_one_and_never_more() -> None:
    """Rounding takes the cosine of some vectors with themselves past 1, where a cross-entropy raises."""
    for seed in range(50):
        torch.manual_seed(seed)
        book = _identity(TokenBook(channels=384, prototypes=1))
        guide = book(book.book[0].view(1, 384, 1, 1) * 3)
        assert guide.item() == pytest.approx(1.0)
        assert guide.item() <= 1.0
        assert torch.isfinite(guide_cross_entropy(guide, torch.ones_like(guide)))


# --- More prototypes that are worth more than one --------------------

# Two kinds of tissue of either sort, as opposite directions: no plane separates the sorts, and a mean is a plane.
CORNERS = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]).T.reshape(1, 2, 1, 4)
SORTS = torch.tensor([1.0, 1.0, 0.0, 0.0])


def test_the_mean_separates_neighbouring_kinds_but_never_opposite_ones() -> None:
    """Some guides tell two neighbouring corners from the others: they are no constants."""
    torch.manual_seed(0)
    said = set()
    for _ in range(300):
        book = TokenBook(channels=2, prototypes=8)
        torch.nn.init.normal_(book.project.bias)  # type: ignore[arg-type]
        said.add(tuple((book(CORNERS)[0, 0, 0] > 0.5).int().tolist()))
    assert {(1, 0, 1, 0), (1, 0, 0, 1), (0, 1, 1, 0), (0, 1, 0, 1)} <= said
    assert said.isdisjoint({(1, 1, 0, 0), (0, 0, 1, 1)})


@pytest.mark.parametrize("aggregate", ["softmax", "logsumexp"])
def test_the_others_learn_to_separate_them(aggregate: str) -> None:
    torch.manual_seed(0)
    book = TokenBook(channels=2, prototypes=8, aggregate=aggregate)  # type: ignore[arg-type]
    optimizer = torch.optim.Adam(book.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        guide_cross_entropy(book(CORNERS), SORTS.view(1, 1, 1, 4)).backward()
        optimizer.step()
    guide = book(CORNERS)[0, 0, 0]
    assert (guide[:2] > 0.9).all()
    assert (guide[2:] < 0.1).all()


def test_in_softmax_a_token_takes_the_vote_of_the_prototype_it_resembles() -> None:
    book = _identity(TokenBook(channels=2, prototypes=4, aggregate="softmax", temperature=0.05))
    with torch.no_grad():
        book.book.copy_(CORNERS[0, :, 0].T[None])
        book.weights.copy_(torch.tensor([[4.0, 4.0, -4.0, -4.0]]))
    torch.testing.assert_close(book(CORNERS)[0, 0, 0], torch.tensor([4.0, 4.0, -4.0, -4.0]).sigmoid())


def test_logsumexp_of_one_prototype_is_the_logistic_function_of_its_cosine() -> None:
    book, tokens = _book(prototypes=1, aggregate="logsumexp", temperature=0.5), _tokens()
    cosine = F.cosine_similarity(book.project(tokens), book.book[0, 0].view(1, -1, 1, 1), dim=1)
    expected = torch.sigmoid(10 * torch.tanh(2 * cosine / 10))
    torch.testing.assert_close(book(tokens)[:, 0], expected)


def test_half_of_the_prototypes_begin_as_foreground_in_softmax() -> None:
    assert _book(aggregate="softmax", prototypes=4, maps=2).weights.tolist() == [[4.0, -4.0, 4.0, -4.0]] * 2


@pytest.mark.parametrize("aggregate", ["mean", "logsumexp"])
def test_the_sharpest_guide_of_a_dot_product_keeps_a_gradient(aggregate: str) -> None:
    """Logits end at +-10, where the logistic function is neither 0 nor 1."""
    book = _identity(_book(channels=2, prototypes=1, aggregate=aggregate, similarity="dot"))
    with torch.no_grad():
        book.book.copy_(torch.tensor([[[1.0, 0.0]]]))
    guide = book(CORNERS * 1e6)[0, 0, 0, :2]
    limit = 1 / (1 + math.exp(-10))
    torch.testing.assert_close(guide, torch.tensor([limit, 1 - limit]))
    assert guide.max() < 1


def test_the_mean_of_dot_products_is_the_logistic_function_of_their_share_of_the_root_of_the_width() -> None:
    """The token (3, 4) against (2, 0) and (0, 1): the mean of 6 and 4, by sqrt(2)."""
    book = _identity(_book(channels=2, prototypes=2, similarity="dot"))
    with torch.no_grad():
        book.book.copy_(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))
    logit = 10 * math.tanh(5 / math.sqrt(2) / 10)
    guide = book(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1))
    assert guide.item() == pytest.approx(1 / (1 + math.exp(-logit)))


def test_logsumexp_is_that_of_its_weights_and_threshold() -> None:
    """Cosines 1 and -1 by a temperature of 0.5, weights 1/4 and 3/4, threshold 0.5: log(e^2 / 4 + 3 e^-2 / 4) - 0.5."""
    book = _identity(_book(channels=2, prototypes=2, aggregate="logsumexp", temperature=0.5))
    with torch.no_grad():
        book.book.copy_(torch.tensor([[[5.0, 0.0], [-2.0, 0.0]]]))
        book.weights.copy_(torch.tensor([[0.0, math.log(3.0)]]))
        book.threshold.fill_(0.5)
    logit = math.log(math.exp(2) / 4 + 3 * math.exp(-2) / 4) - 0.5
    expected = 1 / (1 + math.exp(-10 * math.tanh(logit / 10)))
    assert book(torch.tensor([0.1, 0.0]).view(1, 2, 1, 1)).item() == pytest.approx(expected)


def test_prototypes_begin_with_about_unit_length() -> None:
    assert TokenBook(channels=400, prototypes=100).book.norm(dim=2).mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(
    ("aggregate", "learned", "names"),
    [
        ("mean", False, {"book"}),
        ("mean", True, {"book", "weights"}),
        ("softmax", False, {"book", "weights", "log_temperature"}),
        ("logsumexp", False, {"book", "weights", "log_temperature", "threshold"}),
    ],
)
def test_only_what_an_aggregate_needs_is_learned_and_stored(aggregate: str, learned: bool, names: set[str]) -> None:
    book = _book(aggregate=aggregate, learned_weights=learned)
    names = names | {"project.weight", "project.bias"}
    assert {name for name, _ in book.named_parameters()} == names
    assert set(book.state_dict()) == names


@pytest.mark.parametrize("options", [{"prototypes": 1}, {"prototypes": 2, "aggregate": "softmax"}, {"maps": 1}])
def test_the_smallest_books_are_allowed(options: dict[str, object]) -> None:
    assert _book(**options)(_tokens()).shape == (2, 1, 3, 5)


# --- All of them --------------------


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_guide_is_between_zero_and_one_for_any_token(aggregate: str, similarity: str) -> None:
    book = _book(aggregate=aggregate, similarity=similarity)
    for size in (0.0, 1e-12, 1.0, 1e6):
        guide = book(_tokens() * size)
        assert guide.min() >= 0
        assert guide.max() <= 1


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_every_parameter_gets_a_finite_gradient(aggregate: str, similarity: str) -> None:
    book = _book(aggregate=aggregate, similarity=similarity, learned_weights=True)
    guide = book(_tokens())
    guide_cross_entropy(guide, (_tokens()[:, :1] > 0).float()).backward()
    for name, weight in book.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_guide_of_a_token_depends_on_that_token_alone(aggregate: str) -> None:
    book, tokens = _book(aggregate=aggregate), _tokens(batch=1)
    changed = tokens.clone()
    changed[..., 1, 2] = 7.0
    assert (book(changed) != book(tokens)).nonzero().tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_evaluation_and_training_agree(aggregate: str) -> None:
    book, tokens = _book(aggregate=aggregate), _tokens()
    assert torch.equal(book.train()(tokens), book.eval()(tokens))


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_there_is_a_map_for_each_that_was_asked_for(aggregate: str) -> None:
    guide = _book(aggregate=aggregate, maps=3)(_tokens())
    assert guide.shape == (2, 3, 3, 5)
    assert not torch.allclose(guide[:, 0], guide[:, 1])


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_half_precision_around_it_does_not_change_the_guide(aggregate: str, similarity: str) -> None:
    book, tokens = _book(aggregate=aggregate, similarity=similarity, prototypes=256), _tokens(h=9, w=9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        guide = book(tokens)
    assert guide.dtype == torch.float32
    assert torch.equal(guide, book(tokens))


def test_a_book_works_on_grids_of_any_size() -> None:
    book = _book()
    assert {book(_tokens(h=h, w=w)).shape[-2:] for h, w in ((1, 1), (16, 16), (22, 31))} == {(1, 1), (16, 16), (22, 31)}


@pytest.mark.parametrize(
    "options",
    [
        {"aggregate": "median"},
        {"similarity": "euclid"},
        {"prototypes": 0},
        {"prototypes": 1, "aggregate": "softmax"},
        {"temperature": 0},
        {"maps": 0},
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="guide tokenbook"):
        create("guide", "tokenbook", GUIDES, options, channels=8)
