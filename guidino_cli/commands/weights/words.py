"""Weights in words: what they are, their licence, their hashes, their sizes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from guidino_cli.models.pretrained.catalogue import LICENCE_PAGES
from guidino_cli.models.pretrained.finding import weight_files

if TYPE_CHECKING:
    from guidino_cli.models.pretrained.loading import Loaded


def file_hashes(path: Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of a file, or of each file of a folder's weights: large models come in several."""
    from guidino_cli.models.pretrained.reading import file_sha256

    files = [path] if path.is_file() else weight_files(path)
    return [(file.name, file_sha256(file)) for file in files]


def what_it_is(loaded: Loaded) -> str:
    """Architecture, size and precision."""
    count = sum(parameter.numel() for parameter in loaded.network.parameters())
    dtype = str(next(loaded.network.parameters()).dtype).removeprefix("torch.")
    return f"{loaded.network.config.model_type}, {count:,} parameters, {dtype}"


def licence_of(name: str) -> str:
    """A licence, with the page that holds its text where there is one."""
    page = LICENCE_PAGES.get(name)
    return f"{name} ({page})" if page else name


def numbers(values: list[float]) -> str:
    """Features with four digits."""
    return " ".join(f"{value:.4f}" for value in values)


def millions(count: int) -> str:
    """A number of parameters, such as `86 M`."""
    return f"{count / 1e6:.0f} M"


def in_bytes(count: int) -> str:
    """A size to download, such as `343 MB`."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
