"""Content of the figures of a pretraining run."""

import numpy as np

from guidino_cli.plots.pretraining import TokenTimeline, pretraining_figure, token_sheet_figure

_ROW = {"lr": 1e-3, "weight_decay": 0.04, "images_per_second": 9.0, "seconds": 1.0, "gradient_norm": 2.0}


def _history() -> list[dict]:
    first = {
        "step": 10,
        "stage": "one",
        "loss": 8.0,
        "dino": 5.5,
        "ibot": 2.5,
        "target_entropy": 5.4,
        "rank": 9.0,
        "cosine": 0.2,
    }
    second = {**first, "step": 20, "stage": "two", "loss": 7.5, "gram": 0.5, "rank": 12.0}
    return [{**_ROW, **first}, {**_ROW, **second}]


def test_terms_and_entropies_have_separate_panels_and_settings_are_not_drawn() -> None:
    terms, entropies, watched = pretraining_figure(_history()).axes[:3]
    assert [line.get_label() for line in terms.lines[:4]] == ["loss", "dino", "ibot", "gram"]
    assert [line.get_label() for line in entropies.lines[:1]] == ["target entropy"]
    assert watched.get_ylabel() == "effective rank"
    assert terms.lines[0].get_xydata().tolist() == [[10, 8.0], [20, 7.5]]


def test_a_term_of_later_stages_is_drawn_from_its_first_row() -> None:
    gram = next(line for line in pretraining_figure(_history()).axes[0].lines if line.get_label() == "gram")
    assert gram.get_xydata().tolist() == [[20, 0.5]]


def test_stage_boundaries_are_lines_in_every_panel() -> None:
    for axes in pretraining_figure(_history()).axes[:3]:
        assert any(list(line.get_xdata()) == [10, 10] for line in axes.lines)


def test_a_history_without_entropies_or_rank_is_drawn() -> None:
    rows = [{**_ROW, "step": 5, "stage": "one", "loss": 1.0, "cosine_loss": 1.0}]
    assert len(pretraining_figure(rows).axes) == 3


def test_a_sheet_has_the_image_and_its_tokens_at_every_step() -> None:
    image, seen = np.zeros((20, 30, 3), dtype=np.uint8), [np.zeros((2, 3, 3)), np.ones((2, 3, 3))]
    figure = token_sheet_figure(
        [TokenTimeline("a.png", image, seen), TokenTimeline("b.png", image, seen)], steps=[0, 1500], name="run"
    )
    titles = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert sum(bool(axes.images) for axes in figure.axes) == 6
    assert {"image", "step 0", "step 1,500"} <= set(titles)
