"""A configuration becomes a model: which parts fit, what each is given, and which pairings are refused."""

import pytest
import torch

from guidino_cli.config import ComponentSettings, GuideSettings, ModelSettings
from guidino_cli.errors import ConfigError
from guidino_cli.models import BACKBONES, SEGMENTERS, build_model, find_stride, find_strides
from guidino_cli.models.composed import Model
from guidino_cli.models.segmenters.registry import SEGMENTER_INFO
from guidino_cli.registry import find

READERS = sorted(name for name in SEGMENTERS if find("segmenter", name, SEGMENTERS).uses_backbone)
DIMS = {name: row.dims for name, row in SEGMENTER_INFO.items()}
BLIND = [name for name in READERS if not find("segmenter", name, SEGMENTERS).reads_image]
ONE_MAP = ComponentSettings("random", {"hidden_size": 32, "depth": 4, "heads": 2})


def test_segdino_reads_normed_patch_tokens_of_four_blocks(small_backbone: ComponentSettings) -> None:
    """Random LayerNorms are plain ones: mean 0 and variance 1 over the channels; 64 x 48 pixels are 4 x 3 patches."""
    model = build_model(ModelSettings(ComponentSettings("segdino"), small_backbone), num_classes=2)
    assert model.backbone is not None
    maps = model.backbone(torch.rand(1, 3, 64, 48))
    assert [tuple(item.shape) for item in maps] == [(1, 32, 4, 3)] * 4
    for item in maps:
        torch.testing.assert_close(item.mean(dim=1), torch.zeros(1, 4, 3), atol=1e-5, rtol=0)
        torch.testing.assert_close(item.var(dim=1, correction=0), torch.ones(1, 4, 3), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", READERS)
def test_only_the_head_of_a_network_on_a_frozen_backbone_is_trained(
    name: str, small_backbone: ComponentSettings
) -> None:
    model = build_model(ModelSettings(ComponentSettings(name), small_backbone), num_classes=2, dims=DIMS[name])
    trained = {key.split(".")[0] for key, weight in model.named_parameters() if weight.requires_grad}
    assert trained == {"segmenter"}


def test_seg_guidino_reads_one_map_or_the_deepest_of_four(small_backbone: ComponentSettings) -> None:
    """The random backbone is the same in both; so is the head, if the seed is."""

    def build(backbone: ComponentSettings) -> Model:
        torch.manual_seed(0)
        return build_model(ModelSettings(ComponentSettings("seg-guidino"), backbone), num_classes=2).eval()

    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(build(ONE_MAP)(image).logits[0], build(small_backbone)(image).logits[0])


def test_a_guide_that_says_one_everywhere_changes_nothing(small_backbone: ComponentSettings) -> None:
    torch.manual_seed(0)
    model = build_model(
        ModelSettings(ComponentSettings("seg-guidino"), small_backbone, guide=GuideSettings(at="bottleneck")),
        num_classes=2,
    ).eval()
    image = torch.rand(1, 3, 33, 50)
    with torch.no_grad():
        assert model.backbone is not None
        dense = model.backbone(image)
        open_gate = model.segment(image, dense, torch.ones(1, 1, 3, 4)).logits[0]
        assert torch.equal(open_gate, model.segment(image, dense, None).logits[0])


@pytest.mark.parametrize("backbone", ["dinov3", "embedded"])
@pytest.mark.parametrize("name", BLIND)
def test_a_guide_at_an_input_that_is_not_read_is_refused_before_weights_are_sought(name: str, backbone: str) -> None:
    settings = ModelSettings(
        ComponentSettings(name), ComponentSettings(backbone, {"weights": "/nowhere"}), guide=GuideSettings(at="input")
    )
    with pytest.raises(ConfigError, match=rf"guide\.at is input, but segmenter {name} .* use bottleneck or features"):
        build_model(settings, num_classes=2, dims=DIMS[name])


@pytest.mark.parametrize("name", READERS)
def test_a_network_that_sees_through_a_backbone_is_refused_without_one(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"segmenter {name} .* set model\.backbone"):
        build_model(ModelSettings(ComponentSettings(name)), num_classes=2, dims=DIMS[name])


@pytest.mark.parametrize("name", sorted(set(SEGMENTERS) - set(READERS)))
def test_a_backbone_that_nobody_reads_is_refused_before_weights_are_sought(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"segmenter {name} (does not read a backbone|makes its mask of a guide): set model\.guide"
    ):
        build_model(
            ModelSettings(ComponentSettings(name), ComponentSettings("dinov3", {"weights": "/nowhere"})),
            num_classes=2,
            dims=DIMS[name],
        )


def test_segdino_on_one_block_says_which_setting_to_change() -> None:
    with pytest.raises(ConfigError, match=r"segmenter segdino: reads 4 blocks .* found 1; set .*options\.layers"):
        build_model(ModelSettings(ComponentSettings("segdino"), ONE_MAP), num_classes=2)


@pytest.mark.parametrize("name", READERS)
def test_what_the_backbone_decides_is_no_option(name: str, small_backbone: ComponentSettings) -> None:
    settings = ModelSettings(ComponentSettings(name, {"dense_channels": [8]}), small_backbone)
    with pytest.raises(ConfigError, match="unknown option 'dense_channels'"):
        build_model(settings, num_classes=2, dims=DIMS[name])


def test_fresh_weights_do_not_depend_on_what_a_backbones_loader_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a plain and a guided run of one seed would start from different networks."""

    def build(draws: int) -> Model:
        monkeypatch.setattr("guidino_cli.models.build_backbone", lambda *_, **__: _drawing(draws))
        torch.manual_seed(0)
        return build_model(
            ModelSettings(ComponentSettings("unet", {"width": 4}), ONE_MAP, guide=GuideSettings()), num_classes=2
        )

    first, second = build(0), build(5)
    assert all(map(torch.equal, first.segmenter.parameters(), second.segmenter.parameters()))


def _drawing(draws: int) -> torch.nn.Module:
    from guidino_cli.models.backbones.dino import random_dino

    torch.rand(draws)
    return random_dino(**ONE_MAP.options)


def test_every_registered_part_can_be_found() -> None:
    assert all(callable(find("part", name, registry)) for registry in (SEGMENTERS, BACKBONES) for name in registry)


@pytest.mark.parametrize(
    ("name", "options", "stride"),
    [
        ("unet", {}, 16),
        ("nnunet", {}, 32),
        ("nnunet", {"widths": [8, 8, 8], "blocks": [1, 1, 1]}, 4),
        ("segdino", {}, 1),
    ],
)
def test_the_stride_is_known_without_a_model(name: str, options: dict[str, object], stride: int) -> None:
    settings = ModelSettings(ComponentSettings(name, options), backbone=ComponentSettings("dinov3"))
    assert find_stride(settings, num_classes=2) == stride


@pytest.mark.parametrize(
    ("name", "options", "strides"),
    [
        ("nnunet3d", {}, (32, 32, 32)),
        ("nnunet3d", {"widths": [8] * 3, "blocks": [1] * 3, "strides": [[1, 1, 1], [1, 2, 2], [2, 4, 1]]}, (2, 8, 2)),
        ("light3d", {}, (1, 1, 1)),
        ("primus", {}, (8, 8, 8)),
        ("unet", {}, (16, 16)),
    ],
)
def test_the_strides_of_every_axis_are_known_without_a_model(
    name: str, options: dict[str, object], strides: tuple[int, ...]
) -> None:
    settings = ModelSettings(ComponentSettings(name, options), backbone=ComponentSettings("dinov3"))
    assert find_strides(settings, num_classes=2) == strides


@pytest.mark.parametrize("dims", [2, 2.5])
@pytest.mark.parametrize("name", [name for name, count in DIMS.items() if count == 3])
def test_a_network_for_volumes_is_refused_for_slices_before_weights_are_sought(name: str, dims: float) -> None:
    settings = ModelSettings(ComponentSettings(name), ComponentSettings("dinov3", {"weights": "/nowhere"}))
    with pytest.raises(ConfigError, match=rf"segmenter {name} segments volumes, but data\.dims is {dims:g}: set data"):
        build_model(settings, num_classes=2, dims=dims)


@pytest.mark.parametrize("name", [name for name, count in DIMS.items() if count == 2 and name != "smp"])
def test_a_network_for_images_is_refused_for_volumes(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"segmenter {name} segments images and slices, but data\.dims is 3"):
        build_model(ModelSettings(ComponentSettings(name)), num_classes=2, dims=3)
