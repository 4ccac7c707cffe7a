"""SegFormer: the paper's sizes, transformers' forward, and starting from pretrained encoders."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import SegformerConfig, SegformerForImageClassification, SegformerForSemanticSegmentation

from guidino_cli.errors import WeightsError
from guidino_cli.models.segmenters.segformer import SegFormer


def _encoder(tmp_path: Path, **changes: Any) -> tuple[Path, dict[str, torch.Tensor]]:
    """A folder as the hub has it, of an encoder trained with a classifier, and the encoder's weights."""
    torch.manual_seed(7)
    network = SegformerForImageClassification(SegformerConfig(**changes))
    network.save_pretrained(tmp_path / "mit")
    return tmp_path / "mit", network.segformer.state_dict()


@pytest.mark.parametrize(
    ("size", "count"), [("b0", 3_714_658), ("b1", 13_677_762), ("b2", 27_348_162), ("b5", 84_594_882)]
)
def test_each_size_has_the_papers_number_of_parameters(size: str, count: int) -> None:
    with torch.device("meta"):
        net = SegFormer(num_classes=2, size=size)
    assert sum(weight.numel() for weight in net.parameters()) == count


def test_both_halves_together_are_transformers_forward() -> None:
    torch.manual_seed(0)
    ours = SegFormer(num_classes=2, size="b0").eval()
    theirs = SegformerForSemanticSegmentation(SegformerConfig(num_labels=2)).eval()
    theirs.load_state_dict(ours.net.state_dict())
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        expected = torch.nn.functional.interpolate(theirs(image).logits, size=(64, 96), mode="bilinear")
        torch.testing.assert_close(ours.decode(ours.encode(image, []), (64, 96))[0], expected, atol=1e-6, rtol=0)


def test_the_last_map_is_the_bottleneck() -> None:
    features = SegFormer(num_classes=2, size="b0").encode(torch.rand(1, 3, 64, 32), [])
    assert [tuple(item.shape) for item in features] == [
        (1, width, 64 // side, 32 // side) for width, side in ((32, 4), (64, 8), (160, 16), (256, 32))
    ]


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ValueError, match="size is 'b9', expected one of b0"):
        SegFormer(num_classes=2, size="b9")


# --- Starting from pretrained weights


def test_the_encoder_starts_from_a_folder_and_its_classifier_is_left_out(tmp_path: Path) -> None:
    folder, weights = _encoder(tmp_path)
    found = SegFormer(num_classes=2, size="b0", weights=str(folder)).net.segformer.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_the_encoder_learns_from_there(tmp_path: Path) -> None:
    net = SegFormer(num_classes=2, size="b0", weights=str(_encoder(tmp_path)[0]))
    assert all(module.training for module in net.modules())
    assert all(weight.requires_grad for weight in net.parameters())


def test_an_encoder_of_another_size_is_refused(tmp_path: Path) -> None:
    folder, _ = _encoder(tmp_path)
    with pytest.raises(WeightsError, match=r"mit: does not fit the model: .* of another shape"):
        SegFormer(num_classes=2, size="b1", weights=str(folder))


def test_an_encoder_with_fewer_blocks_is_refused(tmp_path: Path) -> None:
    folder, _ = _encoder(tmp_path, depths=[1, 1, 1, 1])
    with pytest.raises(WeightsError, match="missing"):
        SegFormer(num_classes=2, size="b0", weights=str(folder))


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_what_is_no_folder_of_weights_is_refused_with_the_ways_out(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=rf"{name}: expected a local folder in Hugging Face layout"):
        SegFormer(num_classes=2, size="b0", weights=str(tmp_path / name))


def test_a_truncated_file_is_refused_by_name(tmp_path: Path) -> None:
    folder, _ = _encoder(tmp_path)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        SegFormer(num_classes=2, size="b0", weights=str(folder))
