"""A part of a segmenter that starts from pretrained weights in a local folder instead of random ones."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from guidino_cli.errors import WeightsError
from guidino_cli.models.pretrained.finding import weight_files
from guidino_cli.models.pretrained.reading import check_file
from guidino_cli.models.weights import refuse_gaps


def pretrained(
    network_class: Any, config: Any, folder: str, *, heads: tuple[str, ...], fresh: tuple[str, ...] = ()
) -> Any:
    """A network of transformers with the weights of a folder: every tensor placed, or the load fails with names.

    Args:
        network_class: Class of the network.
        config: Its configuration, which the weights must fit.
        folder: Folder in Hugging Face layout.
        heads: Prefixes of tensors that the folder may hold for other purposes.
        fresh: Prefixes of tensors that the folder need not hold.

    Raises:
        WeightsError: No such folder, a damaged file, or tensors that do not fit.
    """
    import transformers

    # It would print a table of what is missing; what matters of it becomes an error below.
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    for file in _files(folder):
        check_file(file)
    try:
        network, report = network_class.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            dtype=torch.float32,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{folder}: cannot be loaded ({reason})") from error
    refuse_gaps(
        folder,
        missing=[key for key in report["missing_keys"] if not key.startswith(fresh or ("\0",))],
        unexpected=[key for key in report["unexpected_keys"] if not key.startswith(heads)],
        shapes=[str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"]],
        total=len(network.state_dict()),
    )
    return network.train()


def _files(folder: str) -> list[Path]:
    files = weight_files(Path(folder)) if (Path(folder) / "config.json").is_file() else []
    if not files:
        raise WeightsError(
            f"{folder}: expected a local folder in Hugging Face layout (config.json and model.safetensors); "
            "download it where the hub is reached, or leave `weights` out to start at random"
        )
    return files
