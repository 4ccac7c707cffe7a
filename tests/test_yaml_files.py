"""YAML files: whatever is wrong with bytes, syntax or values is a `ConfigError` with the file's name."""

from pathlib import Path

import pytest

from guidino_cli.config import RunConfig, override
from guidino_cli.errors import ConfigError
from guidino_cli.yaml_files import read_yaml


def _billion_laughs() -> bytes:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    return "\n".join(lines).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"\xff\xfea: 1", "not UTF-8 text at byte 0"),
        (b"seed: 0x_", "invalid literal"),
        (b'seed: !!int "x"', "invalid literal"),
        (b"a: !!timestamp 2024-13-45", "month must be in 1..12"),
        (b"a: &a [*a]", "nested more than 50 levels"),
        (b"a: " + b"[" * 5000, "nested too deep"),
        (b"a: " + b"[" * 100 + b"]" * 100, "nested more than 50 levels"),
        (_billion_laughs(), "more than 100,000 values"),
        (b"a: 1\nb: 2\na: 3", "line 1: 'a' is given twice"),
        (b"a: .nan", "the number nan"),
        (b"a: 1e999", "the number inf"),
        (b"a: 99999999999999999999", "more than 64 bits"),
        (rb'a: "\ud800"', "half of a surrogate pair"),
        (rb'a: "x\0y"', "the character"),
        (b"a: !!set {x}", "type set"),
        (b"a: !!binary eA==", "type bytes"),
        (b"a: !!python/object/apply:os.system [ls]", "line 1: could not determine a constructor"),
        (b"{a: 1, [b]: 2}", "line 1: found unhashable key"),
        (b"a: [1", "line 1: "),
        (b"a: x\n" * 50_000, "larger than 200 kB"),
    ],
)
def test_what_cannot_be_settings_is_refused_with_file_and_reason(content: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"a\.yaml: not valid YAML \(.*{reason}") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_a_date_is_text(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("description: 2024-01-02\nother: 2024-13-45")
    assert read_yaml(tmp_path / "a.yaml") == {"description": "2024-01-02", "other": "2024-13-45"}


def test_numbers_are_decimal(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("[010, 1:30, 12, -3, 0, 1_000, 0x1F, 1e-4, 2.5]")
    assert read_yaml(tmp_path / "a.yaml") == ["010", "1:30", 12, -3, 0, 1000, 31, 1e-4, 2.5]


def test_parts_that_share_an_alias_can_be_changed_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &x {lr: 1}\nb: *x\nc: {<<: *x, lr: 2}")
    content = read_yaml(tmp_path / "a.yaml")
    content["a"]["lr"] = 3
    assert content == {"a": {"lr": 3}, "b": {"lr": 1}, "c": {"lr": 2}}


@pytest.mark.parametrize("value", ["0x_", "[", '!!int "x"', ".inf", "a: b: c"])
def test_an_override_that_is_no_yaml_is_named(value: str) -> None:
    with pytest.raises(ConfigError, match=r"--set train\.lr=.*: not valid YAML"):
        override(RunConfig(), [f"train.lr={value}"])
