"""Validation Dice of several runs in one figure."""

from guidino_cli.plots.run_curves import validation_curves

HISTORY = [{"epoch": 1, "val_dice": 0.2}, {"epoch": 2}, {"epoch": 3, "val_dice": 0.7}, {"epoch": 4, "val_dice": 0.7}]


def test_each_run_has_a_line_of_its_measured_epochs_and_a_star_at_its_first_best() -> None:
    figure = validation_curves([("a", HISTORY), ("never validated", [{"epoch": 1}]), ("b", HISTORY[:1])])
    (axes,) = figure.axes
    line, star, *other = axes.lines
    assert [list(values) for values in line.get_data()] == [[1, 3, 4], [0.2, 0.7, 0.7]]
    assert (list(star.get_xdata()), list(star.get_ydata())) == ([3], [0.7])
    assert len(other) == 2
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]


def test_runs_without_any_validation_make_an_empty_figure() -> None:
    (axes,) = validation_curves([("a", []), ("b", [])]).axes
    assert len(axes.lines) == 0
