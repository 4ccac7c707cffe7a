"""Licences of known and unknown weights."""

import pytest

from guidino_cli.models.pretrained.catalogue import EMBEDDED_LICENCE, infer_licence


@pytest.mark.parametrize(
    ("model_type", "source", "licence"),
    [
        ("dinov3_vit", "anything", "DINOv3 licence"),
        ("dinov3_convnext", "anything", "DINOv3 licence"),
        ("dinov2", "facebook/dinov2-base", "Apache-2.0"),
        ("dinov2_with_registers", "weights/dinov2-reg-small", "Apache-2.0"),
        ("dinov2", "someone/medical-dinov2", "Apache-2.0 if Meta's own DINOv2, else see its source"),
        ("vit", "google/vit-base-patch16-224", "see its source"),
    ],
)
def test_licences_are_claimed_for_known_weights_only(model_type: str, source: str, licence: str) -> None:
    assert infer_licence(model_type, source) == licence


def test_the_embedded_weights_name_both_of_their_licences() -> None:
    assert "Apache-2.0 (DINOv2" in EMBEDDED_LICENCE
    assert "MIT" in EMBEDDED_LICENCE
