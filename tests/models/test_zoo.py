"""What is said of every segmenter."""

from guidino_cli.models import SEGMENTERS
from guidino_cli.models.zoo import ZOO


def test_every_registered_segmenter_is_described_and_nothing_else() -> None:
    assert list(ZOO) == list(SEGMENTERS)
