"""JSON files: whatever is wrong with bytes, syntax or types is one error with the file's name."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from guidino_cli.errors import DataError, WeightsError
from guidino_cli.json_files import read_json, read_json_object, read_record


@dataclass(frozen=True)
class _Record:
    name: str
    score: float
    count: int = 0


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty, 0 bytes"),
        (b"{", "line 1"),
        (b"\xff\xfe{}", "not UTF-8 text at byte 0"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": NaN}', "holds NaN"),
        (b'{"a": -Infinity}', "holds -Infinity"),
        (b'{"a": 1e999}', "holds 1e999"),
        (b'{"a": 9223372036854775808}', "integers of 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "integers of 64 bits"),
        (b'{"a": 1, "b": 2, "a": 3}', "holds 'a' twice"),
        (rb'{"a": "\ud800"}', "half of a surrogate pair"),
        (rb'{"a": "x\u0000"}', "a zero byte"),
    ],
)
def test_what_is_no_json_is_refused_with_file_reason_and_advice(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(WeightsError, match=rf"a\.json: damaged \(.*{reason}.*\); do this") as caught:
        read_json(tmp_path / "a.json", error=WeightsError, hint="do this")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without end")
def test_a_file_without_end_is_refused() -> None:
    with pytest.raises(DataError, match=r"/dev/zero: damaged \(larger than 200 MB\)"):
        read_json(Path("/dev/zero"), hint="")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.json: cannot be read \(No such file"):
        read_json(tmp_path / "a.json", hint="")


def test_what_is_json_is_read_as_it_is(tmp_path: Path) -> None:
    value = {"ü": [1, -0.5, True, None, "😀"], "largest": 2**63 - 1}
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(value).encode())
    assert read_json(tmp_path / "a.json", hint="") == value


@pytest.mark.parametrize(("content", "kind"), [("[]", "list"), ("3", "int"), ("null", "NoneType")])
def test_an_object_is_required_by_the_kind_that_was_found(content: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json: damaged \(a JSON {kind}, expected an object\)"):
        read_json_object(tmp_path / "a.json", hint="")


def test_a_record_takes_defaults_and_ignores_what_later_versions_add(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"name": "x", "score": 1, "new": []}')
    assert read_record(tmp_path / "a.json", _Record, hint="") == _Record("x", 1.0, 0)


@pytest.mark.parametrize(
    ("content", "entry"),
    [
        ('{"name": "x"}', "score: field required"),
        ('{"name": 1, "score": 1}', "name: .*found 1"),
        ('{"name": "x", "score": "1"}', "score: .*found '1'"),
        ('{"name": "x", "score": true}', "score: .*found True"),
        ('{"name": "x", "score": 1, "count": 1.5}', "count: .*found 1.5"),
    ],
)
def test_an_entry_of_another_type_is_named_and_not_converted(content: str, entry: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json: damaged \({entry}\); advice"):
        read_record(tmp_path / "a.json", _Record, hint="advice")
