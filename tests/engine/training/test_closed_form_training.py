"""A run whose guide is solved in closed form: it resumes bit for bit, sees cached maps turned, and learns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from guidino_cli.data.augment import orient
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.models.calibrated_ridge import CalibratedRidgeGuide

Trainers = Callable[..., Trainer]
Maker = Callable[..., Path]

CLOSED_FORM = (
    "model.backbone={name: random, options: {hidden_size: 32, depth: 1, heads: 2}}",
    "model.guide={name: ridge, at: logits, per_class: true, fit: closed-form, tokens: 4}",
    "data.augment=dihedral",
)


class Killed(Exception):
    """Stands for the end of the process."""


def _die_at(trainer: Trainer, call: int) -> None:
    step, calls = trainer._step, []

    def counted(batch: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return step(batch)

    trainer._step = counted  # type: ignore[method-assign]


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("data.augment=nnunet",),
        ("train.dense_cache_gb=0",),
        ("data.resize=none",),
        ("model.reduction=2",),
        ("data.resize=longer",),
    ],
    ids=["turned", "augmented", "uncached", "crops", "reduced", "padded"],
)
def test_a_killed_run_resumes_bit_for_bit(
    make_trainer: Trainers, same: Callable[..., bool], more: tuple[str, ...], make_data: Maker, tmp_path: Path
) -> None:
    data, settings = make_data(train=6, num_classes=3), (*CLOSED_FORM, *more)
    whole = make_trainer(data, tmp_path / "whole", *settings)
    whole.fit()
    killed = make_trainer(data, tmp_path / "killed", *settings)
    _die_at(killed, 5)
    with pytest.raises(Killed):
        killed.fit()
    resumed = make_trainer(data, tmp_path / "killed", *settings)
    resumed.resume()
    resumed.fit()
    assert same(resumed, whole)
    assert resumed.folder.weights.read_bytes() == whole.folder.weights.read_bytes()


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_the_backbone_sees_each_training_image_once(
    make_trainer: Trainers, cache: str, make_data: Maker, tmp_path: Path
) -> None:
    settings = (*CLOSED_FORM, f"train.dense_cache={cache}", f"train.dense_cache_folder={tmp_path / 'features'}")
    trainer = make_trainer(make_data(train=6, val=2), tmp_path / "run", *settings, "train.validate_every=3")
    backbone = trainer.bare_model.backbone
    assert backbone is not None
    seen: list[int] = []
    backbone.register_forward_hook(lambda _module, given, _result: seen.append(len(given[0])))
    trainer.fit()
    # Six training images; two for validation in the last epoch.
    assert seen == [1] * 8


def test_turned_maps_are_those_of_the_image_turned_with_it(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(train=6), tmp_path / "run", *CLOSED_FORM, "train.batch_size=6")
    step = trainer.train_step
    (batch,) = trainer.loader.iterate(0, start=0)
    params = step._draw(batch, 0)  # type: ignore[arg-type]
    compute = step._cached_features(batch, params)  # type: ignore[arg-type]
    assert compute is not None
    (turned,) = compute(lambda: pytest.fail("the backbone must not see the augmented image"))
    (plain,) = step.unaugmented_features(batch)  # type: ignore[arg-type]
    assert any(item.quarter_turns for item in params)
    assert torch.equal(turned, orient(plain, params))


def test_training_images_have_the_guide_of_their_fold_and_others_that_of_all(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(train=6), tmp_path / "run", *CLOSED_FORM, "train.epochs=1")
    trainer.fit()
    guide, step = trainer.bare_model.guide, trainer.train_step
    assert isinstance(guide, CalibratedRidgeGuide)
    assert step.folds is not None
    sample = trainer.loader.unaugmented(2)
    (dense,) = step.unaugmented_features(sample)
    held_out = trainer.bare_model.eval()(sample.image, folds=step.folds[sample.case_index]).guide
    whole = trainer.bare_model(sample.image).guide
    torch.testing.assert_close(held_out, guide.held_out(dense, step.folds[sample.case_index]))
    torch.testing.assert_close(whole, guide(dense))
    assert not torch.allclose(held_out, whole)


def test_the_guide_and_the_mean_token_stay_as_they_were_solved(
    make_trainer: Trainers, make_data: Maker, tmp_path: Path
) -> None:
    trainer = make_trainer(make_data(train=6), tmp_path / "run", *CLOSED_FORM)
    model, solved = trainer.bare_model, []
    trainer._step = lambda batch, step=trainer._step: solved.append(_fixed(model)) or step(batch)  # type: ignore
    trainer.fit()
    first = solved[0]
    assert first["guide.weight"].any()
    assert first["prior.mean_token"].any()
    assert all(torch.equal(value, _fixed(model)[name]) for name, value in first.items())
    assert model.prior is not None
    assert model.prior.gain is not None
    assert model.prior.gain.detach()[0] != 1.0


def _fixed(model: Any) -> dict[str, torch.Tensor]:
    names = ("guide.", "prior.mean_token")
    return {name: value.clone() for name, value in model.state_dict().items() if name.startswith(names)}
