"""Sizes and costs of segmenters."""

import pytest

from guidino_cli.engine.measuring import count_multiply_adds, measure_cost, measure_size
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO


@pytest.mark.parametrize("name", [name for name, row in SEGMENTER_INFO.items() if row.size is not None])
def test_the_listed_size_is_that_of_the_network(name: str) -> None:
    if SEGMENTER_INFO[name].needs == "monai":
        pytest.importorskip("monai")
    assert measure_size(name) == SEGMENTER_INFO[name].size


def test_the_weights_of_the_u_net_are_those_of_the_papers_code_with_a_second_class() -> None:
    size = measure_size("unet")
    assert (size.trainable, size.total) == (7_763_041 + 33, 7_763_041 + 33)


def test_a_network_that_reads_a_backbone_is_counted_with_it() -> None:
    size = measure_size("segdino")
    # The spec's head with one class, one more class of 512 weights and a bias, and the ViT-S/16 of transformers.
    assert size.total - size.trainable == 21_596_544
    assert round(size.trainable / 1e6, 3) == 2.476


def test_multiply_adds_grow_with_the_pixels() -> None:
    assert count_multiply_adds("unet", 128) == 4 * count_multiply_adds("unet", 64)


def test_levels_of_sam_2_are_counted_on_grids_of_their_own() -> None:
    # Of 64 px: a receptive field block on each cell, two convolutions and a head on each of the three finer grids.
    blocks = sum(
        cells * (320 * channels + 380_928) for cells, channels in ((256, 144), (64, 288), (16, 576), (4, 1152))
    )
    decoder = blocks + (256 + 64 + 16) * (3 * 64 * 9 * 64 + 64 * 2)
    assert count_multiply_adds("sam2-unet", 64, with_backbone=False) == decoder
    assert count_multiply_adds("sam2-unet", 64) > decoder


def test_a_network_that_trains_on_batches_only_is_measured_with_one_image() -> None:
    assert measure_cost("upernet-swin", 32).seconds > 0


def test_a_step_is_measured_in_a_process_of_its_own() -> None:
    cost = measure_cost("unet", 64)
    # Weights and their gradients alone are 62 MB.
    assert cost.memory_mb > 50
    assert 0 < cost.seconds < 60
