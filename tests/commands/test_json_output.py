"""`--json`: one object on stdout with the keys of docs/json.md; all else on stderr; exit codes as without it."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
RUN = ROOT / "tests" / "compatibility" / "run_45086b3" / "guided"
Guidino = Callable[..., Any]


def documented(command: str) -> set[str]:
    """Keys in the table of a command."""
    section = re.search(rf"^## {command}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section is not None
    return set(re.findall(r"^\| `([^`]+)` \|", section[1], re.M))


def paths(value: Any, known: set[str], path: str = "") -> Iterator[str]:
    """Keys of an object in the notation of the page, no deeper than it goes."""
    if path in known:
        yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from paths(item, known, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from paths(item, known, f"{path}[]")
    else:
        yield path


def read(outcome: Any, command: str, *, may_lack: tuple[str, ...] = ()) -> dict[str, Any]:
    """The object on stdout, whose keys must be those of the page but for empty lists."""
    content: dict[str, Any] = json.loads(outcome.stdout)
    known = documented(command)
    found = set(paths(content, known))
    assert found <= known
    assert {key for key in known - found if not key.startswith(may_lack or ("-",))} == set()
    assert next(iter(content)) == "schema"
    assert content["schema"] == 1
    return content


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Ten images with masks of a square, one of them without any."""
    for number in range(10):
        pixels = np.random.default_rng(number).integers(0, 90, (32, 40, 3)).astype(np.uint8)
        mask = np.zeros((32, 40), np.uint8)
        if number:
            mask[8:20, 8 + number : 24] = 255
        for folder, content in (("images", pixels), ("masks", mask)):
            (tmp_path / "src" / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(tmp_path / "src" / folder / f"c{number}é.png")
    return tmp_path / "src"


def test_presets_are_listed(guidino: Guidino) -> None:
    rows = {row["name"]: row for row in read(guidino("presets", "--json"), "presets")["presets"]}
    assert rows["own-unet"]["guide_at"] == "logits"
    assert rows["kvasir-nnwnet-lora"]["lora_rank"] == 8
    assert (rows["meddinov3"]["command"], rows["meddinov3"]["segmenter"]) == ("pretrain", None)
    assert all(row["settings"] is None for row in rows.values())


def test_presets_of_a_data_set_are_listed(guidino: Guidino) -> None:
    rows = read(guidino("presets", "tn3k", "--json"), "presets")["presets"]
    assert rows
    assert all(row["name"].startswith("tn3k-") for row in rows)


@pytest.mark.parametrize("name", ["kvasir-segdino", "meddinov3"])
def test_a_preset_has_all_settings_and_their_origins(guidino: Guidino, name: str) -> None:
    (row,) = read(guidino("presets", name, "--json"), "presets")["presets"]
    assert row["settings"]["train"]["precision"] == "auto"
    assert (row["origins"]["seed"], row["origins"]["description"]) == ("default", name)


def test_networks_are_listed_without_costs(guidino: Guidino) -> None:
    rows = {row["name"]: row for row in read(guidino("models", "--json"), "models")["networks"]}
    assert rows["unet"]["cost"] is None
    # The paper's U-Net, for two classes.
    assert rows["unet"]["trainable"] == rows["unet"]["total"]


def test_weights_are_listed_with_licence_and_place(guidino: Guidino) -> None:
    rows = {row["name"]: row for row in read(guidino("weights", "list", "--json"), "weights list")["weights"]}
    assert rows["dinov3-vits16"]["is_gated"]
    assert rows["dinov3-vits16"]["ungated_copy"] == "timm/vit_small_patch16_dinov3.lvd1689m"
    assert Path(rows["guidino-tiny"]["path"]).is_file()
    assert rows["guidino-tiny"]["is_here"]


def test_the_parameters_of_guidino_tiny_are_counted(guidino: Guidino) -> None:
    from guidino_cli.config import load_preset
    from guidino_cli.models import build_model

    backbone = build_model(load_preset("own-unet").model, num_classes=2).backbone
    rows = {row["name"]: row for row in json.loads(guidino("weights", "list", "--json").stdout)["weights"]}
    assert rows["guidino-tiny"]["parameters"] == sum(item.numel() for item in backbone.parameters())


def test_prepare_says_what_it_found_and_wrote(guidino: Guidino, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    outcome = guidino("prepare", source, "-o", out, "--json")
    assert outcome.code == 0
    content = read(outcome, "prepare", may_lack=("left_out",))
    assert (content["cases"], content["holds"], content["out"]) == (10, "images", str(out))
    assert sum(content["splits"].values()) == 10
    assert content["smallest"] == content["largest"] == [32, 40]
    assert sum(item["share"] for item in content["classes"]) == pytest.approx(1)
    # Nine squares of 12 rows and 15, 14, ..., 7 columns.
    assert content["classes"][1]["share"] == pytest.approx(12 * sum(range(7, 16)) / (10 * 32 * 40))
    assert content["next"].startswith("guidino train --preset own-unet")
    assert outcome.stdout.isascii()
    assert content["suspicious_masks"][0]["case"] == "c0é"


def test_a_dry_run_of_prepare_writes_nothing(guidino: Guidino, source: Path) -> None:
    content = read(guidino("prepare", source, "--dry-run", "--json"), "prepare", may_lack=("left_out",))
    assert (content["out"], content["next"]) == (None, None)


def test_prepare_says_what_it_left_out_and_ends_with_6(guidino: Guidino, source: Path, tmp_path: Path) -> None:
    (source / "images" / "c3é.png").write_bytes(b"damaged")
    outcome = guidino("prepare", source, "-o", tmp_path / "data", "--skip-bad", "--json")
    assert outcome.code == 6
    content = read(outcome, "prepare", may_lack=("suspicious_masks",))
    assert [item["case"] for item in content["left_out"]] == ["c3é"]
    assert content["cases"] == 9


def test_predict_counts_and_names_failures_and_ends_with_6(guidino: Guidino, source: Path, tmp_path: Path) -> None:
    (source / "images" / "c3é.png").write_bytes(b"damaged")
    outcome = guidino("predict", RUN, source / "images", "-o", tmp_path / "masks", "--json")
    assert outcome.code == 6
    content = read(outcome, "predict")
    assert (content["total"], content["made"], content["failed"], content["skipped"]) == (10, 9, 1, 0)
    assert content["failures"][0]["image"].endswith("c3é.png")
    assert Path(content["review"]).is_file()
    assert len(Path(content["records"]).read_text().splitlines()) == 10
    again = guidino("predict", RUN, source / "images", "-o", tmp_path / "masks", "--skip-existing", "--json")
    assert again.code == 6
    assert (json.loads(again.stdout)["made"], json.loads(again.stdout)["skipped"]) == (0, 9)


def test_predict_of_nothing_but_failures_ends_with_3(guidino: Guidino, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"damaged")
    outcome = guidino("predict", RUN, tmp_path / "a.png", "-o", tmp_path / "masks", "--json")
    assert outcome.code == 3
    assert read(outcome, "predict")["made"] == 0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("presets no-such --json", 2),
        ("presets own-unet --json --resolved", 2),
        ("models no-such --json", 2),
        ("prepare no-such -o out --json", 3),
        ("predict no-such image.png -o out --json", 3),
        ("weights list --jsn", 2),
    ],
)
def test_an_error_is_one_line_on_stderr_and_no_json(guidino: Guidino, words: str, code: int) -> None:
    outcome = guidino(*words.split())
    assert outcome.code == code
    assert outcome.stdout == ""
    assert outcome.stderr.count("\n") == 1
