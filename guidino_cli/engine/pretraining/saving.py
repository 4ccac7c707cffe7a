"""Write what a run has come to as a backbone folder that every other command takes as a guide's."""

import os
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from guidino_cli.errors import ResourceError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.models.pretrained.catalogue import licence_note
from guidino_cli.models.pretrained.storing import write_statistics
from guidino_cli.models.weights import fingerprint
from guidino_cli.ssl.trunk import Trunk


def save_backbone(network: Any, folder: Path, *, trunk: Trunk, identity: dict[str, str]) -> str:
    """Put a network into a folder in Hugging Face layout, its weights last; other files of the folder stay.

    Args:
        network: Of transformers.
        folder: Of the run.
        trunk: How its images are normalised, `mean` and `std`.
        identity: Of the weights that the run began with, for the note on their licence.

    Returns:
        SHA-256 of the weights, as runs record it.

    Raises:
        ResourceError: The disk is full or the place cannot be written.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    temporary = folder / f".backbone.{os.getpid()}"
    try:
        network.save_pretrained(temporary)
        write_statistics(temporary, *(values.flatten().tolist() for values in (trunk.mean, trunk.std)))
        write_text(folder / "NOTICE.md", licence_note(identity))
        # safetensors writes files that only their owner may read; a backbone is there to be shared.
        mode = (temporary / "config.json").stat().st_mode
        # A folder with weights is a whole one: they come last.
        for file in sorted(temporary.iterdir(), key=lambda path: path.suffix == ".safetensors"):
            file.chmod(mode)
            write_atomically(folder / file.name, partial(os.replace, file))
    except OSError as error:
        reason = error.strerror or str(error)
        raise ResourceError(f"{folder}: cannot be written ({reason}); free some space, then --resume") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return fingerprint(network)
