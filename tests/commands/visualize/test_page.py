"""The page of guides."""

from pathlib import Path

import numpy as np
from PIL import Image

from guidino_cli.commands.visualize.page import PAGE_FILE, write_page
from guidino_cli.commands.visualize.report import GuideReport, GuideScoreRow
from guidino_cli.engine.guides.scores import MapScoreAccumulator

HOSTILE = "<script>alert('x')</script>\"&"


def _report(name: str) -> GuideReport:
    """Scores of six images, the fewest with links to the worst, median and best."""
    accumulator, thresholds = MapScoreAccumulator(name), (0.25, 0.5, 0.75)
    report = GuideReport(name, [accumulator], [], ("guide", ""), thresholds)
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for number in range(6):
        score = accumulator.score(values, values > 0.5 + 0.05 * number)
        iou = tuple(score.iou_at(value) for value in thresholds)
        report.rows.append(GuideScoreRow(f"{name}{number}", "a.png", score, iou, dice=0.5))
    return report


def test_names_are_escaped_everywhere_on_the_page(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a.png")
    image = (tmp_path / "a.png").rename(tmp_path / "<img src=x onerror=alert(1)>&'_guide.png")
    write_page(
        tmp_path,
        heading=HOSTILE,
        notes=[HOSTILE],
        images=[image],
        overviews=[(HOSTILE, image)],
        report=_report(HOSTILE),
    )
    page = (tmp_path / PAGE_FILE).read_text(encoding="utf-8")
    assert page.count("<script>") == 1
    assert "<script>alert" not in page
    assert "onerror=alert(1)>" not in page
    assert page.count("<img") == 2
    # Title, heading, note, overview, table rows, links, and titles of the plots.
    assert page.count("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;") >= 20
    assert page.count("by AUROC:</b>") == 3


def test_a_page_without_scores_has_no_score_table(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10)).save(tmp_path / "a_backbone.png")
    write_page(tmp_path, heading="Tokens", notes=[], images=[tmp_path / "a_backbone.png"], overviews=[])
    page = (tmp_path / PAGE_FILE).read_text(encoding="utf-8")
    assert "<table" not in page
    assert '<div id="p-a-backbone">' in page
