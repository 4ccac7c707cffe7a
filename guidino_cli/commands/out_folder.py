"""Can the results be written where the user wants them?"""

import tempfile
from pathlib import Path

from guidino_cli.errors import ConfigError


def require_writable(out: Path) -> None:
    """Refuse a folder in which nothing can be made, by making something and taking it away again.

    Raises:
        ConfigError: Nothing can be written there; the message names the folder and the system's reason.
    """
    place = next(folder for folder in (out.resolve(), *out.resolve().parents) if folder.exists())
    try:
        # Permissions alone do not tell: a disk may be read-only, a folder may belong to a special file system.
        with tempfile.NamedTemporaryFile(dir=place, prefix=".guidino-"):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(f"-o {out}: cannot be written to ({reason}); choose another folder") from error
