"""Which patches prototypes like."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.config import DataSettings
from guidino_cli.engine.guides.prototypes import NearestPatches, iter_patch_tokens
from guidino_cli.engine.prediction.inference import Window
from guidino_cli.models.backbones.dino import random_dino
from guidino_cli.models.guides import TokenBook

BOX = (0.0, 0.0, 0.5, 0.5)


def identity(guide: TokenBook) -> TokenBook:
    """The TokenBook without its learned map."""
    with torch.no_grad():
        guide.project.weight.copy_(torch.eye(guide.project.weight.shape[0])[..., None, None])
        guide.project.bias.zero_()
    return guide.eval()


def softmax_book(book: torch.Tensor, votes: torch.Tensor) -> TokenBook:
    guide = identity(TokenBook(channels=book.shape[1], prototypes=len(book), aggregate="softmax"))
    with torch.no_grad():
        guide.book.copy_(book[None])
        guide.weights.copy_(votes[None])
    return guide


def test_a_prototype_shows_its_most_alike_patches_best_first_and_one_an_image() -> None:
    book = NearestPatches(softmax_book(torch.eye(2), torch.tensor([4.0, -4.0])), keep=2)
    for name, x in (("a", 0.6), ("b", 1.0), ("c", 0.8)):
        tokens = torch.tensor([[x, x / 2], [(1 - x * x) ** 0.5, (1 - x * x / 4) ** 0.5]])
        book.add(Path(name), [(tokens, [BOX, (0.5, 0.5, 1.0, 1.0)])])
    likes = next(item for item in book.select() if item.number == 0)
    assert [(hit.image.name, hit.box) for hit in likes.nearest] == [("b", BOX), ("c", BOX)]
    assert [hit.value for hit in likes.nearest] == pytest.approx([1.0, 0.8])
    assert likes.vote == pytest.approx(1 / (1 + np.exp(-4.0)))


def test_usage_is_the_share_of_patches_that_choose_a_prototype() -> None:
    book = NearestPatches(softmax_book(torch.eye(2), torch.tensor([4.0, -4.0])))
    tokens = torch.tensor([[1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    book.add(Path("a"), [(tokens, [BOX] * 4)])
    # With temperature 0.1 a cosine of 1 against 0 chooses with 1 / (1 + e^-10).
    assert {item.number: round(item.usage or 0, 3) for item in book.select()} == {0: 0.75, 1: 0.25}


def test_prototypes_that_are_alike_are_shown_once() -> None:
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]])
    book = NearestPatches(softmax_book(twins, torch.tensor([4.0, 4.0, 4.0])))
    book.add(Path("a"), [(torch.eye(2), [BOX] * 2)])
    numbers = {item.number for item in book.select()}
    assert len(numbers) == 2
    assert 2 in numbers


def test_mean_is_one_direction_with_the_guides_own_values_at_both_ends() -> None:
    guide = identity(TokenBook(channels=2, prototypes=3, aggregate="mean"))
    with torch.no_grad():
        guide.book.copy_(torch.tensor([[[1.0, 0.0]] * 3]))
    book = NearestPatches(guide)
    book.add(Path("a"), [(torch.tensor([[1.0, -1.0, 0.0], [0.0, 0.0, 1.0]]), [BOX] * 3)])
    (only,) = book.select()
    assert only.number is None
    assert [hit.value for hit in only.nearest] == pytest.approx([1.0])
    assert [hit.value for hit in only.farthest] == pytest.approx([0.0])
    assert book.mean_lengths() == pytest.approx([1.0])


def test_memory_holds_the_best_alone() -> None:
    book = NearestPatches(softmax_book(torch.eye(2), torch.tensor([4.0, -4.0])), keep=3)
    for number in range(20):
        book.add(Path(str(number)), [(torch.tensor([[1.0], [number / 10]]), [BOX])])
    likes = next(item for item in book.select() if item.number == 0)
    assert [hit.image.name for hit in likes.nearest] == ["0", "1", "2"]


def test_patches_cover_the_image_and_padding_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((32, 80, 3), dtype=np.uint8)).save(path)
    backbone = random_dino(hidden_size=16, depth=1, heads=2, registers=1)
    windows = list(iter_patch_tokens(backbone, path, DataSettings(image_size=48, resize="none"), Window(48)))
    # Windows of 48 at columns 0 and 32, padded from 32 to 48 rows: 2 of 3 rows of patches are image.
    assert [(tokens.shape[1], len(boxes)) for tokens, boxes in windows] == [(6, 6), (6, 6)]
    assert windows[1][1][-1] == pytest.approx((0.5, 64 / 80, 1.0, 1.0))


def test_the_most_used_prototypes_are_shown_first() -> None:
    """Four prototypes of one sort chosen by 1, 3, 2 and 0 of 6 patches; two of the sort are shown."""
    book = NearestPatches(softmax_book(torch.eye(4), torch.full((4,), 4.0)))
    chosen = torch.eye(4)[:, [0, 1, 1, 1, 2, 2]]
    book.add(Path("a"), [(chosen, [BOX] * 6)])
    assert [item.number for item in book.select(4)][:2] == [1, 2]


def test_patches_of_padding_beside_the_image_have_no_box(tmp_path: Path) -> None:
    """40 columns are padded to 48: the third column of patches has its middle, 40, not on the image."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((48, 40, 3), dtype=np.uint8)).save(path)
    backbone = random_dino(hidden_size=16, depth=1, heads=2, registers=1)
    (window,) = iter_patch_tokens(backbone, path, DataSettings(image_size=48, resize="none"), Window(48))
    assert [box[1] for box in window[1]] == [0.0, 0.4] * 3
    assert window[1][-1] == pytest.approx((2 / 3, 0.4, 1.0, 0.8))


def test_an_image_is_padded_at_the_bottom_and_on_the_right(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    backbone = random_dino(hidden_size=16, depth=1, heads=2, registers=1)
    settings = DataSettings(image_size=48, resize="none")
    ((tokens, _),) = iter_patch_tokens(backbone, tmp_path / "a.png", settings, Window(48))
    padded = torch.zeros(1, 3, 48, 48)
    padded[0, :, :32, :40] = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    with torch.inference_mode():
        expected = backbone(padded)[-1][0, :, :2, :2].flatten(1)
    torch.testing.assert_close(tokens, expected)
