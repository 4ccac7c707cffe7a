"""What is said of every segmenter."""

from pathlib import Path

from guidino_cli.models import SEGMENTERS
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO


def test_every_registered_segmenter_is_described_and_nothing_else() -> None:
    assert list(SEGMENTER_INFO) == list(SEGMENTERS)


def test_the_page_of_networks_says_of_each_what_the_list_says() -> None:
    page = (Path(__file__).parents[3] / "docs" / "models.md").read_text(encoding="utf-8")
    missing = [name for name, about in SEGMENTER_INFO.items() if f"{about.summary}\n{about.use}" not in page]
    assert not missing, "run `guidino models --markdown` and put it into docs/models.md"
