"""Settings of a run that do not go together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from guidino_cli.errors import ConfigError
from guidino_cli.progress import pluralize

if TYPE_CHECKING:
    from guidino_cli.config import RunConfig


def check_combinations(config: RunConfig, label: str) -> None:
    """Check settings against each other, once each is valid by itself.

    Args:
        config: The settings.
        label: Where they come from, for messages.

    Raises:
        ConfigError: Two settings contradict each other, or one has no effect; the message says which to change.
    """
    if config.model.guide is not None and config.model.backbone is None:
        raise ConfigError(f"{label}: model.guide needs a model.backbone to draw tokens from")
    _check_fixed_guide(config, label)
    _check_closed_form(config, label)
    if config.model.backbone_channels is not None and config.model.backbone is None:
        raise ConfigError(f"{label}: model.backbone_channels needs a model.backbone that sees them, or leave it out")
    _check_trainable_parts(config, label)
    _check_patience(config, label)
    _check_class_weights(config, label)
    _check_dims(config, label)
    _check_target(config, label)
    if not 0 <= config.predict.overlap < 1:
        raise ConfigError(f"{label}: predict.overlap is {config.predict.overlap}, expected 0 <= overlap < 1")


def _check_fixed_guide(config: RunConfig, label: str) -> None:
    """Refuse a loss of a guide that nothing changes."""
    model = config.model
    is_fixed = model.guide is not None and model.guide.from_run is not None
    terms = [name for name, weight in config.train.loss.items() if name in {"guide", "guide_mse"} and weight > 0]
    if is_fixed and model.lora is None and model.finetune is None and terms:
        raise ConfigError(
            f"{label}: model.guide.from_run keeps the guide as it is, so train.loss.{terms[0]} changes nothing; "
            f"set train.loss.{terms[0]}=0"
        )


def _check_closed_form(config: RunConfig, label: str) -> None:
    """Refuse a guide in closed form with settings that change its tokens, and `tokens` without such a guide."""
    model, guide = config.model, config.model.guide
    if guide is None:
        return
    if guide.tokens and (guide.fit != "closed-form" or guide.at not in {"logits", "channels"}):
        raise ConfigError(
            f"{label}: model.guide.tokens is {guide.tokens}, which needs model.guide.fit=closed-form and "
            f"model.guide.at=logits or channels, found {guide.fit} and {guide.at}; set them, or model.guide.tokens=0"
        )
    if guide.fit != "closed-form":
        return
    if guide.name != "ridge":
        raise ConfigError(f"{label}: model.guide.fit=closed-form solves guide ridge, found {guide.name}: set its name")
    if guide.from_run is not None:
        raise ConfigError(
            f"{label}: model.guide.from_run takes a guide as it is, model.guide.fit=closed-form solves one: choose one"
        )
    way = "lora" if model.lora is not None else "finetune" if model.finetune is not None else None
    if way is not None:
        raise ConfigError(
            f"{label}: model.guide.fit=closed-form solves the guide on tokens that model.{way} would change: set "
            f"model.guide.fit=gradient and model.guide.tokens=0, or model.{way}=null"
        )
    terms = [name for name, weight in config.train.loss.items() if name in {"guide", "guide_mse"} and weight > 0]
    if terms:
        raise ConfigError(
            f"{label}: model.guide.fit=closed-form keeps the guide as it is solved, so train.loss.{terms[0]} changes "
            f"nothing; set train.loss.{terms[0]}=0"
        )


def _check_trainable_parts(config: RunConfig, label: str) -> None:
    """Refuse settings of a trainable backbone if it is frozen, and LoRA together with finetuning."""
    model, train = config.model, config.train
    ways = [name for name in ("lora", "finetune") if getattr(model, name) is not None]
    if len(ways) > 1:
        raise ConfigError(f"{label}: model.lora keeps the backbone's weights, model.finetune trains them: choose one")
    if ways and model.backbone is None:
        raise ConfigError(f"{label}: model.{ways[0]} needs a model.backbone to adapt")
    if model.lora is not None and train.optimizer != "adamw":
        raise ConfigError(f"{label}: model.lora needs train.optimizer=adamw, found {train.optimizer}")
    if train.freeze_heads and model.lora is None:
        raise ConfigError(f"{label}: train.freeze_heads needs an adapted backbone: set model.lora, or leave it out")
    if train.checkpointing and not ways:
        raise ConfigError(
            f"{label}: train.checkpointing needs a trainable backbone: set model.lora or model.finetune, or leave "
            "it out"
        )
    if train.shard_backbone and (ways or model.backbone is None):
        found = f"model.{ways[0]} trains it" if ways else "there is no model.backbone"
        raise ConfigError(f"{label}: train.shard_backbone needs a frozen backbone, but {found}: set it to false")
    rates = {"train.lr": train.lr, "train.backbone_lr": train.backbone_lr or train.lr}
    rates |= {"train.lora_lr": train.lora_lr} if model.lora is not None else {}
    lowest = min(rates, key=rates.__getitem__)
    if train.final_lr > rates[lowest]:
        raise ConfigError(
            f"{label}: train.final_lr is {train.final_lr:g}, expected at most {lowest} ({rates[lowest]:g}), where the "
            "schedule begins"
        )
    if train.final_lr and train.schedule == "constant":
        raise ConfigError(f"{label}: train.final_lr needs a schedule that falls: set train.schedule=cosine or poly")
    if train.backbone_lr is not None and model.finetune is None:
        raise ConfigError(
            f"{label}: train.backbone_lr needs a finetuned backbone: set model.finetune={{}}, or leave it out"
        )


def _check_patience(config: RunConfig, label: str) -> None:
    """Refuse a patience that can never end the run, or that ends it before it could improve."""
    if not config.train.min_steps:
        # Else a run on images may have more epochs, as many as its data needs.
        require_reachable_patience(config, label)
    patience, every = config.train.patience, config.train.validate_every
    if 0 < patience < every:
        raise ConfigError(
            f"{label}: train.patience is {patience}, but validation takes place every {every} epochs "
            f"(train.validate_every); give {every} or more"
        )


def require_reachable_patience(config: RunConfig, label: str) -> None:
    """`ConfigError` if a run with these epochs can never be stopped by its patience."""
    patience, epochs = config.train.patience, config.train.epochs
    if patience >= epochs:
        raise ConfigError(
            f"{label}: train.patience is {patience}, but the run has {pluralize(epochs, 'epoch')}, so it would never "
            "stop early; give a lower number, or --set train.patience=0 to train all of them"
        )


def _check_class_weights(config: RunConfig, label: str) -> None:
    """Refuse class weights without effect; their number is compared with the classes of the data later."""
    if config.train.class_weights is not None and config.train.loss.get("cross_entropy", 0) == 0:
        raise ConfigError(
            f"{label}: train.class_weights weigh the cross-entropy, which train.loss does not have; add "
            "cross_entropy: 1 to it, or leave class_weights out"
        )


def _check_dims(config: RunConfig, label: str) -> None:
    """Refuse settings of patches and slabs without effect, and augmentations that patches do not have."""
    data = config.data
    if data.patch_size is not None and data.dims != 3:
        raise ConfigError(f"{label}: data.patch_size needs data.dims=3, found {data.dims:g}; leave it out, or set dims")
    if data.slab != 3 and data.dims != 2.5:
        raise ConfigError(f"{label}: data.slab needs data.dims=2.5, found {data.dims:g}; leave it out, or set dims")
    if data.dims == 3 and data.augment not in {"none", "light", "nnunet"}:
        raise ConfigError(
            f"{label}: data.augment is {data.augment}, but patches of volumes (data.dims=3) have none, light and nnunet"
        )


_AFFINITIES = "affinities"


def _check_target(config: RunConfig, label: str) -> None:
    """Refuse settings of classes where the network learns affinities, and the other way round."""
    model, data, loss = config.model, config.data, config.train.loss
    terms = sorted(name for name, weight in loss.items() if weight > 0)
    if model.target != _AFFINITIES:
        if _AFFINITIES in terms:
            raise ConfigError(f"{label}: train.loss has affinities, which model.target=affinities learns; set both")
        return
    of_classes = [name for name in terms if name != _AFFINITIES and not name.startswith("guide")]
    if of_classes or _AFFINITIES not in terms:
        found = f"has {', '.join(of_classes)}, of classes" if of_classes else f"is {', '.join(terms) or 'empty'}"
        raise ConfigError(
            f"{label}: train.loss {found}, but model.target is affinities: set 'train.loss={{affinities: 1}}'"
        )
    wanted = {
        "predict.mirror=false": (config.predict.mirror in (False, []), "a flip moves every affinity to another pixel"),
        "data.resize=none": (
            data.dims == 3 or data.resize == "none",
            "affinities are between neighbouring pixels of the data",
        ),
        "model.guide.per_class=false": (model.guide is None or not model.guide.per_class, "instances have no classes"),
        "data.ignore_label=null": (data.ignore_label is None, "masks hold instance numbers"),
    }
    for setting, (is_met, reason) in wanted.items():
        if not is_met:
            raise ConfigError(f"{label}: model.target=affinities needs {setting}: {reason}")
