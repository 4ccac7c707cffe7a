"""Inputs of a run's network: images, or slices, slabs or patches of volumes."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

from guidino_cli.config import DataSettings, RunConfig
from guidino_cli.data.manifest import Manifest
from guidino_cli.data.volumes.preprocessing import VolumePreprocessing
from guidino_cli.errors import ConfigError

Units = Literal["images", "slices", "patches"]

_OF_VOLUMES = ("dims", "slab", "slice_axis", "patch_size", "intensity", "window", "windows", "suv")
"""Settings of `data` that images do not have."""


@dataclass(frozen=True)
class NetworkInput:
    """The input of a run's network.

    Attributes:
        volumes: How volumes are preprocessed; None for images.
        dims: 2, 2.5 or 3, see `DataSettings.dims`.
        slab: Slices side by side as channels.
        patch_size: Slices, rows and columns of a patch; None for images, slices and slabs.
    """

    volumes: VolumePreprocessing | None = None
    dims: float = 2
    slab: int = 1
    patch_size: tuple[int, int, int] | None = None

    @classmethod
    def from_manifest(cls, manifest: Manifest, config: RunConfig) -> "NetworkInput":
        """The input of a new run on a prepared data set.

        Raises:
            ConfigError: Settings of volumes for images, or intensities that do not fit the data.
        """
        if not manifest.is_volumes:
            _refuse_settings_of_volumes(manifest, config)
            return cls()
        if config.model.guide is not None and config.model.guide.fit == "closed-form":
            raise ConfigError(
                f"model.guide.fit is closed-form, which is for images of one or three 8-bit channels, but "
                f"{manifest.name} holds volumes or pictures with more: set model.guide.fit=gradient and "
                "model.guide.tokens=0"
            )
        if manifest.is_pictures and config.data.dims != 2:
            raise ConfigError(
                f"data.dims is {config.data.dims}, but {manifest.name} holds images, which have one slice: set "
                "data.dims=2 and a network for images"
            )
        if manifest.has_instances and not manifest.is_pictures and config.data.dims != 3:
            raise ConfigError(
                f"data.dims is {config.data.dims:g}, which would cut the instances of {manifest.name} into slices: set "
                "data.dims=3 and a network for volumes"
            )
        preprocessing = VolumePreprocessing.from_manifest(manifest, config.data)
        if config.data.augment == "nnunet-0.1" and not preprocessing.is_unit:
            raise ConfigError(
                "data.augment is nnunet-0.1, which clips to [0, 1], but data.intensity gives z-scores; set "
                "data.augment=nnunet"
            )
        return cls._of_volumes(preprocessing, config.data)

    @classmethod
    def from_facts(cls, facts: Mapping[str, Any], config: RunConfig) -> "NetworkInput":
        """The input that a run recorded in its `run.json`."""
        if "volumes" not in facts:
            return cls()
        return cls._of_volumes(VolumePreprocessing.from_facts(facts["volumes"], config.data), config.data)

    @classmethod
    def _of_volumes(cls, preprocessing: VolumePreprocessing, data: DataSettings) -> "NetworkInput":
        return cls(preprocessing, data.dims, slab_size(data), patch_size(data) if data.dims == 3 else None)

    @property
    def in_channels(self) -> int:
        """Channels of the network's input."""
        return 3 if self.volumes is None else self.volumes.outputs * self.slab

    @property
    def is_unit(self) -> bool:
        """Whether the input is in [0, 1]; z-scores are not."""
        return self.volumes is None or self.volumes.is_unit

    @property
    def units(self) -> Units:
        """Name of the samples in messages."""
        if self.volumes is None:
            return "images"
        return "slices" if self.patch_size is None else "patches"

    def model_arguments(self) -> dict[str, Any]:
        """Arguments of `build_model` that follow from the input."""
        return {
            "in_channels": self.in_channels,
            "dims": self.dims,
            "slab": self.slab,
            "is_standardized": not self.is_unit,
        }

    def to_facts(self) -> dict[str, Any]:
        """Entry "volumes" of `run.json`; {} for images."""
        return {} if self.volumes is None else {"volumes": {"dims": self.dims, **self.volumes.to_facts()}}


def count_outputs(config: RunConfig, classes: Sequence[str]) -> int:
    """Channels of the network's output: one for each class, or for each axis whose affinities it learns."""
    if config.model.target == "classes":
        return len(classes)
    return 3 if config.data.dims == 3 else 2


def require_fitting_target(manifest: Manifest, config: RunConfig) -> None:
    """Refuse classes to learn affinities of, and instance numbers as classes.

    Raises:
        ConfigError: The data was prepared for the other target.
    """
    is_wanted = config.model.target == "affinities"
    if manifest.has_instances == is_wanted:
        return
    if is_wanted:
        raise ConfigError(
            f"model.target is affinities, but the masks of {manifest.name} hold classes "
            f"({', '.join(manifest.classes)}): prepare it with --instances numbers, or --instances components if "
            "connected parts are the instances"
        )
    raise ConfigError(
        f"model.target is classes, but the masks of {manifest.name} hold instance numbers: set model.target=affinities "
        "(presets instances-em, instances-3d), or prepare the data without --instances"
    )


def slab_size(data: DataSettings) -> int:
    """Slices that a network of dims 2 or 2.5 sees at once."""
    return data.slab if data.dims == 2.5 else 1


def patch_size(data: DataSettings) -> tuple[int, int, int]:
    """Slices, rows and columns of the patches of dims 3."""
    depth, height, width = data.patch_size or [data.image_size] * 3
    return depth, height, width


def _refuse_settings_of_volumes(manifest: Manifest, config: RunConfig) -> None:
    """`ConfigError` for settings that have no effect on images."""
    changed = [f"data.{item.name}" for item in fields(DataSettings) if _is_changed(item, config.data)]
    if config.train.steps:
        changed.append("train.steps")
    if changed:
        what, them = ("are settings", "them") if len(changed) > 1 else ("is a setting", "it")
        raise ConfigError(
            f"{', '.join(changed)} {what} of volumes, but {manifest.name} holds images; leave {them} out, or prepare "
            "volumes: guidino prepare VOLUMES -o DATA"
        )


def _is_changed(item: Any, data: DataSettings) -> bool:
    if item.name not in _OF_VOLUMES:
        return False
    default = item.default if item.default is not MISSING else item.default_factory()
    return bool(getattr(data, item.name) != default)
