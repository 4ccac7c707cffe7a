"""Whether downloaded weights have the SHA-256 that the hub states for them."""

import re
from pathlib import Path

from guidino_cli.errors import WeightsError
from guidino_cli.files import file_sha256

_SHA256 = re.compile(r"[0-9a-f]{64}")


def require_published_hashes(files: list[Path], *, source: str) -> None:
    """Compare files that huggingface_hub has downloaded with what it noted of the hub's answer.

    The hub names large files by their SHA-256; huggingface_hub compares their size alone. A file that differs is
    removed, so that the next download fetches it again.

    Args:
        files: In the hub's cache, or in a folder that it has downloaded to.
        source: Hub id, for the message.

    Raises:
        WeightsError: A file differs.
    """
    for file in files:
        expected = _published_sha256(file)
        found = None if expected is None else file_sha256(file)
        if found != expected:
            for path in {file.resolve(), file}:
                path.unlink(missing_ok=True)
            raise WeightsError(
                f"{source}: {file.name} arrived damaged, with SHA-256 {str(found)[:12]}..., expected "
                f"{str(expected)[:12]}...; it was removed: run the same command again"
            )


def _published_sha256(file: Path) -> str | None:
    """The hub's hash of a file, None if it states another kind of hash, as for small files."""
    # The cache holds links to files that are named by their hash; a folder has notes instead.
    note = file.parent / ".cache" / "huggingface" / "download" / f"{file.name}.metadata"
    lines = note.read_text(encoding="utf-8").splitlines() if note.is_file() else []
    name = lines[1].strip() if len(lines) > 1 else file.resolve().name
    return name if _SHA256.fullmatch(name) else None
