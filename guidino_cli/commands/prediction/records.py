"""Log of `predict`: one record per image, a summary, and the records of failed images."""

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired

from typing_extensions import TypedDict

from guidino_cli import __version__
from guidino_cli.commands.prediction.jobs import Shard
from guidino_cli.commands.prediction.mask_files import RECORD_FILES
from guidino_cli.data.limits import max_pixels
from guidino_cli.errors import ConfigError, DataError, ResourceError
from guidino_cli.files import write_atomically, write_text
from guidino_cli.json_files import read_json_object, require_type

SUMMARY_FILE, RECORDS_FILE, _FAILED = RECORD_FILES
_MADE_WITH = "made_with"
_TRIED = "tried"


class _Summary(TypedDict):
    """Entries of a summary that are read again."""

    complete: bool
    images: int
    made: int
    failed: int
    skipped: int
    made_with: NotRequired[dict[str, Any]]


@dataclass
class PredictionCounts:
    """Numbers of images so far."""

    made: int = 0
    failed: int = 0
    skipped: int = 0

    @property
    def seen(self) -> int:
        """All of them."""
        return self.made + self.failed + self.skipped


class PredictionLog:
    """The records of one process, on disk after every image, so that a kill loses at most the last one.

    A single process writes `predictions.jsonl` and `predictions.json`. Each of several writes its own
    `predictions-2of8.jsonl` and `.json`; the last one to finish joins them.

    Args:
        out: Folder of the masks.
        shard: Which of how many processes this is.
        facts: Entries of the summary, such as version and runs; "made_with" must be the same in later calls.
        keep: Append to the records of an earlier call.
    """

    def __init__(self, out: Path, shard: Shard, facts: dict[str, Any], *, keep: bool) -> None:
        self.out, self.shard, self.facts = out, shard, facts
        self.counts = PredictionCounts()
        self._lines_path = _part(out / RECORDS_FILE, shard)
        self._failed_path = _part(out / _FAILED, shard)
        out.mkdir(parents=True, exist_ok=True)
        self._failed_before = _read_failures(self._failed_path) if keep else {}
        self._failed_path.unlink(missing_ok=True)
        self.summarise(total=0, complete=False)
        if not keep:
            self._lines_path.unlink(missing_ok=True)
        elif _ends_mid_line(self._lines_path):
            self._append(self._lines_path, "\n")

    def find_failure(self, image: str, describe_attempt: Callable[[], dict[str, Any] | None]) -> dict[str, Any] | None:
        """The record of an image that an earlier call could not read, if nothing that matters has changed since.

        Args:
            image: As it was recorded.
            describe_attempt: What matters now; called only if there is a record.
        """
        record = self._failed_before.get(image)
        return record if record is not None and record[_TRIED] == describe_attempt() else None

    def repeat_failure(self, record: dict[str, Any]) -> None:
        """List an image among the failed ones again, without another line among all records."""
        self.counts.failed += 1
        self._append(self._failed_path, json.dumps(record, ensure_ascii=False) + "\n")

    def add(self, record: dict[str, Any]) -> None:
        """Append the record of an image; `status` is "ok" or "error"."""
        line = json.dumps(record, ensure_ascii=False) + "\n"
        self._append(self._lines_path, line)
        if record["status"] == "error":
            self.counts.failed += 1
            self._append(self._failed_path, line)
        else:
            self.counts.made += 1

    def summarise(self, *, total: int, complete: bool) -> None:
        """Write the summary of this process, and that of all processes if it is the last."""
        content = {
            **self.facts,
            "complete": complete,
            "images": total,
            "made": self.counts.made,
            "failed": self.counts.failed,
            "skipped": self.counts.skipped,
            "records": self._lines_path.name,
        }
        write_text(_part(self.out / SUMMARY_FILE, self.shard), _json(content))
        if self.shard.count > 1:
            self._join()

    def _join(self) -> None:
        """Write the summary of all shards, until none changed meanwhile: two may finish at the same moment."""
        known = self._summaries()
        while True:
            self._write_joined(known)
            before, known = known, self._summaries()
            if known == before:
                return

    def _summaries(self) -> list[dict[str, Any]]:
        """The summaries of all shards that have one."""
        found = [read_summary(_part(self.out / SUMMARY_FILE, shard)) for shard in self._shards]
        # Another shard's summary may be from an earlier call with other runs or settings, whose masks will be replaced.
        made_with = self.facts.get(_MADE_WITH)
        return [item for item in found if item is not None and item.get(_MADE_WITH) == made_with]

    def _write_joined(self, known: list[dict[str, Any]]) -> None:
        """Write the sum of the summaries; concatenate the records when all are complete."""
        complete = len(known) == self.shard.count and all(item["complete"] for item in known)
        sums = {key: sum(item[key] for item in known) for key in ("images", "made", "failed", "skipped")}
        if complete:
            _concatenate([_part(self.out / RECORDS_FILE, shard) for shard in self._shards], self.out / RECORDS_FILE)
            if sums["failed"]:
                _concatenate([_part(self.out / _FAILED, shard) for shard in self._shards], self.out / _FAILED)
            else:
                # Images that failed in an earlier call have been predicted now.
                (self.out / _FAILED).unlink(missing_ok=True)
        write_text(
            self.out / SUMMARY_FILE, _json({**self.facts, "complete": complete, **sums, "records": RECORDS_FILE})
        )

    @property
    def _shards(self) -> list[Shard]:
        return [Shard(number, self.shard.count) for number in range(1, self.shard.count + 1)]

    def _append(self, path: Path, line: str) -> None:
        try:
            # A byte of a file name that is not UTF-8 becomes an escape such as \udce9, which JSON reads back.
            with path.open("a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(line)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ResourceError(f"{path}: cannot be written ({reason}); free some space") from error

    @property
    def lines_path(self) -> Path:
        """Records of all images of this process."""
        return self._lines_path

    @property
    def failed_path(self) -> Path:
        """Records of the images that failed in this call."""
        return self._failed_path


def describe_attempt(*paths: Path) -> dict[str, Any] | None:
    """Everything that decides whether an image or volume can be read: files, pixel limit and version of guidino.

    None without a file, and for a folder of DICOM files.
    """
    files = [file for path in paths if (file := _describe_file(path)) is not None]
    if len(files) < len(paths):
        return None
    more = {"others": files[1:]} if len(files) > 1 else {}
    return {**files[0], **more, "max_pixels": max_pixels(), "guidino": __version__}


def _describe_file(path: Path) -> dict[str, Any] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    if stat.S_ISDIR(facts.st_mode):
        return None
    # ctime also changes with permissions, and when another file is put in its place.
    return {"bytes": facts.st_size, "modified_ns": facts.st_mtime_ns, "changed_ns": facts.st_ctime_ns}


def _read_failures(path: Path) -> dict[str, dict[str, Any]]:
    """Records of images that could not be read, by image."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    found = {}
    for line in lines:
        # A kill may have left half a line.
        with suppress(ValueError):
            record = json.loads(line)
            if isinstance(record, dict) and record.get(_TRIED) is not None:
                found[str(record.get("image"))] = record
    return found


def require_same_provenance(out: Path, made_with: dict[str, Any]) -> None:
    """Refuse to mix masks of other runs or settings with those in the folder.

    Raises:
        ConfigError: The provenance differs; the message names the first difference.
    """
    summary = read_summary(out / SUMMARY_FILE)
    if summary is None or _MADE_WITH not in summary:
        return
    before = summary[_MADE_WITH]
    # A precision that is not recorded is the full one.
    keys = [*made_with, *(["precision"] if "precision" in before and "precision" not in made_with else [])]
    other = next((key for key in keys if before.get(key) != made_with.get(key)), None)
    if other is not None:
        found, wanted = (_format_setting(record.get(other, "no")) for record in (before, made_with))
        raise ConfigError(
            f"-o {out}: its masks were made with {other} {found}, now it is {wanted}; choose another folder, or make "
            "all anew with --overwrite"
        )


def _format_setting(value: Any) -> str:
    """JSON of a setting; of a single run without the list around it."""
    return json.dumps(value[0] if isinstance(value, list) and len(value) == 1 else value)


def read_summary(path: Path) -> dict[str, Any] | None:
    """A summary, or None if it is missing or unreadable."""
    try:
        content = read_json_object(path, hint="")
        require_type(content, _Summary, source=path, hint="")
    except DataError:
        return None
    return content


def _part(path: Path, shard: Shard) -> Path:
    return path if shard.count == 1 else path.with_name(f"{path.stem}-{shard}{path.suffix}")


def _ends_mid_line(path: Path) -> bool:
    """Whether a kill left an incomplete line at the end."""
    if not path.is_file() or path.stat().st_size == 0:
        return False
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) != b"\n"


def _concatenate(parts: list[Path], whole: Path) -> None:
    def lines() -> Iterator[bytes]:
        for part in parts:
            if part.is_file():
                with part.open("rb") as file:
                    yield from file

    def write(place: Path) -> None:
        with place.open("wb") as file:
            file.writelines(lines())

    write_atomically(whole, write)


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
