"""The augmentation with which a resumed run goes on: the one it began with."""

from dataclasses import replace

from guidino_cli.config import RunConfig
from guidino_cli.distributed import rank
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.progress import log_info


def keep_augmentation(folder: RunFolder, config: RunConfig) -> RunConfig:
    """The settings of a run with the augmentation that it began with; says so where the name means another one now.

    Args:
        folder: The run.
        config: Its settings. In runs of guidino 0.1.0 `data.augment: nnunet` is what is called "nnunet-0.1" now.
    """
    if "augmentation" in folder.facts() or config.data.augment != "nnunet":
        return config
    if rank() == 0:
        log_info(
            f"guidino: {folder.path} was started by guidino 0.1.0 and keeps its augmentation, data.augment=nnunet-0.1; "
            "in new runs data.augment=nnunet is nnU-Net 2.8.1's"
        )
    return replace(config, data=replace(config.data, augment="nnunet-0.1"))
