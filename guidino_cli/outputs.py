"""Checks, before any work, that results can be written where the user wants them."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from guidino_cli.errors import ConfigError
from guidino_cli.files import remove_leftovers


def require_output_folder(
    folder: Path,
    inputs: Sequence[Path] = (),
    *,
    overwrite: bool,
    recognised: bool | None = None,
    may_be_nested: bool = False,
    hint: str = "add --overwrite",
    keep_leftovers_for: float = 0.0,
) -> None:
    """Require a folder that may be and can be written to; what killed processes left in it is removed.

    Args:
        folder: Value of -o; it need not exist.
        inputs: Files and folders that are read; the output folder must not hold them.
        overwrite: Accept a folder that is not empty.
        recognised: For a folder whose old content is removed: whether guidino wrote that content.
        may_be_nested: Accept a folder inside an input folder.
        hint: What else helps than another folder if it is not empty.
        keep_leftovers_for: Age in seconds below which temporary files stay; see `remove_leftovers`.

    Raises:
        ConfigError: The folder is a file, holds or lies in an input, is not empty, or cannot be written to.
    """
    out = folder.resolve()
    for path in inputs:
        source = (path if path.is_dir() else path.parent).resolve()
        if out == source or (recognised is not None and source.is_relative_to(out)):
            raise ConfigError(f"-o {folder}: holds the input {path}; choose another folder")
        if path.is_dir() and not may_be_nested and out.is_relative_to(source):
            raise ConfigError(f"-o {folder}: lies inside the input {path}; choose a folder beside it")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"-o {folder}: is a file, expected a folder")
    if recognised is not False or not folder.exists():
        remove_leftovers(folder, older_than=keep_leftovers_for)
    if folder.is_dir() and any(folder.iterdir()):
        if recognised is False:
            raise ConfigError(f"-o {folder}: holds files that guidino did not write; choose another folder")
        if not overwrite:
            raise ConfigError(f"-o {folder}: is not empty; {hint}, or choose another folder")
    require_writable(folder)


def require_writable(folder: Path) -> None:
    """Require that files can be made in a folder, or in its nearest parent if it does not exist yet.

    Raises:
        ConfigError: They cannot; the message names the folder and the system's reason.
    """
    existing = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    try:
        # Permissions alone do not tell: a disk may be read-only, a folder may belong to a special file system.
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".guidino-"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"-o {folder}: cannot be written to ({reason}); choose another folder") from error


def require_output_file(path: Path, *, overwrite: bool) -> None:
    """Require a file that does not exist or may be replaced.

    Raises:
        ConfigError: It exists and `overwrite` is not given, or is a folder.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise ConfigError(f"-o {path}: exists; add --overwrite, or choose another file")
