"""`guidino weights`: list, where, import and download, through the real command line."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from guidino_cli.models.pretrained.catalogue import KNOWN_WEIGHTS


def test_download_never_mixes_two_models_in_one_folder(guidino: Callable[..., Any], wide_folder: Path) -> None:
    for place in (wide_folder, wide_folder / "config.json"):
        outcome = guidino("weights", "download", "dinov2-small", "-o", place)
        assert outcome.code == 2
        assert ("is not empty; check it with" if place.is_dir() else "is a file") in outcome.stderr


def test_download_prints_size_and_licence_before_it_contacts_the_hub(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "download", "dinov3-vitb16", "--offline")
    assert outcome.code == 4
    assert outcome.stderr.index("343 MB") < outcome.stderr.index("DINOv3 licence") < outcome.stderr.index("offline")


def test_download_of_a_gated_model_says_where_to_accept_the_licence(
    guidino: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    def snapshot(*_: object, local_files_only: bool = False, **__: object) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        response: Any = SimpleNamespace(headers={}, request=None, status_code=401)
        raise GatedRepoError("401 Client Error", response=response)

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    outcome = guidino("weights", "download", "dinov3-vits16")
    assert outcome.code == 4
    assert "https://huggingface.co/facebook/dinov3-vits16-pretrain-lvd1689m and run `hf auth login`" in outcome.stderr
    assert "the copy of the same weights that has no gate, timm/vit_small_patch16_dinov3.lvd1689m" in outcome.stderr


def test_download_of_an_ungated_copy_asks_for_timms_repository_and_keeps_the_licence(
    guidino: Callable[..., Any], wide_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def snapshot(source: str, *_: object, **__: object) -> str:
        asked.append(source)
        return str(wide_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    outcome = guidino("weights", "download", "dinov3-convnext-tiny", "--ungated")
    assert outcome.code == 0, outcome.stderr
    assert set(asked) == {"timm/convnext_tiny.dinov3_lvd1689m"}
    assert "licence: DINOv3 licence (https://ai.meta.com" in outcome.stderr
    assert "--set model.backbone.options.weights=timm/convnext_tiny.dinov3_lvd1689m" in outcome.stderr


def test_an_ungated_copy_of_open_weights_is_refused(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "download", "dinov2-small", "--ungated")
    assert outcome.code == 2
    assert "no copy of facebook/dinov2-small is known; expected one of dinov3-vits16, " in outcome.stderr


def test_copies_are_named_as_timm_names_them() -> None:
    copies = {item.name: item.ungated_copy for item in KNOWN_WEIGHTS if item.backbone == "dinov3"}
    assert copies["dinov3-vits16plus"] == "timm/vit_small_plus_patch16_dinov3.lvd1689m"
    assert copies["dinov3-vit7b16"] == "timm/vit_7b_patch16_dinov3.lvd1689m"
    assert copies["dinov3-convnext-base"] == "timm/convnext_base.dinov3_lvd1689m"
    assert all(copies.values())


def test_import_writes_a_folder_that_verifies(guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    outcome = guidino("weights", "import", wide_folder / "model.safetensors", "-o", out, "--name", "mine")
    assert outcome.code == 0, outcome.stderr
    record = json.loads((out / "guidino.json").read_text())
    assert record["name"] == "mine"
    assert record["licence"] == "DINOv3 licence"
    assert record["weights_sha256"] in outcome.stdout
    assert "DINOv3 licence" in (out / "LICENCE.txt").read_text()
    verified = guidino("weights", "verify", out)
    assert verified.code == 0, verified.stderr
    assert "ok: as imported from model.safetensors; features differ by 0" in verified.stdout
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_import_replaces_older_weights_only_with_overwrite(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    arguments = ("weights", "import", wide_folder, "-o", tmp_path / "out")
    assert guidino(*arguments).code == 0
    (tmp_path / "out" / "old.txt").touch()
    assert guidino(*arguments).code == 2
    assert (tmp_path / "out" / "old.txt").exists()
    assert guidino(*arguments, "--overwrite").code == 0
    assert not (tmp_path / "out" / "old.txt").exists()


def test_import_never_replaces_a_folder_with_other_content(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "weights" / "another-model").mkdir(parents=True)
    outcome = guidino("weights", "import", wide_folder, "-o", tmp_path / "weights", "--overwrite")
    assert outcome.code == 2
    assert "holds files that guidino did not write" in outcome.stderr
    assert (tmp_path / "weights" / "another-model").is_dir()


def test_import_never_replaces_its_own_source(guidino: Callable[..., Any], wide_folder: Path) -> None:
    assert guidino("weights", "import", wide_folder / "model.safetensors", "-o", wide_folder, "--overwrite").code == 2
    assert (wide_folder / "model.safetensors").is_file()


def test_a_failed_import_leaves_no_folder(guidino: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text("<!DOCTYPE html>")
    outcome = guidino("weights", "import", tmp_path / "a.pth", "-o", tmp_path / "out")
    assert outcome.code == 4
    assert "web page" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_list_names_every_known_backbone_within_80_columns(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "list")
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    assert all(any(line.startswith(item.name + " ") for line in lines) for item in KNOWN_WEIGHTS)
    assert max(map(len, lines)) <= 80
    assert outcome.stdout.isascii()
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225" in outcome.stderr
    rows = json.loads(guidino("weights", "list", "--json").stdout)["weights"]
    # Those that the backbones of these families are built with, where no file beside the weights says otherwise.
    for row in rows:
        half, imagenet = ([0.5] * 3, [0.5] * 3), ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        expected = half if "siglip" in row["name"] else (None, None) if row["name"] == "rad-dino" else imagenet
        assert (row["mean"], row["std"]) == expected


def test_the_list_says_which_weights_have_a_gate(guidino: Callable[..., Any]) -> None:
    rows = {row["name"]: row for row in json.loads(guidino("weights", "list", "--json").stdout)["weights"]}
    assert {name for name, row in rows.items() if row["is_gated"]} == {
        *(name for name in rows if name.startswith("dinov3-")),
        "medsiglip",
    }
    assert rows["medsiglip"]["licence_url"].startswith("https://developers.google.com/health-ai-developer-foundations")
    assert rows["rad-dino"]["licence"] == "MIT"
    assert rows["siglip2-base"]["licence"] == rows["dino-vitb8"]["licence"] == "Apache-2.0"


def test_the_weights_of_sam2_are_known(guidino: Callable[..., Any]) -> None:
    lines = guidino("weights", "list").stdout.splitlines()
    (large,) = [line.split() for line in lines if line.startswith("sam2-hiera-large")]
    assert large[1:7] == ["large", "212", "M", "898", "MB", "Apache-2.0"]
    for name in ("sam2", "kvasir-sam2-unet"):
        outcome = guidino("weights", "where", name)
        assert outcome.code == 4
        assert "guidino weights download sam2-hiera-large" in outcome.stderr
    assert guidino("weights", "verify", "sam2-hiera-tiny", "--offline").code == 4


def test_list_and_where_find_weights_in_the_users_own_folder(
    guidino: Callable[..., Any], wide_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide_folder.rename(wide_folder.with_name("dinov3-vits16"))
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(wide_folder.parent))
    rows = {line.split()[0]: line.split()[-1] for line in guidino("weights", "list").stdout.splitlines()}
    assert rows["dinov3-vits16"] == "local"
    assert guidino("weights", "where", "kvasir-nnwnet").stdout.strip() == str(wide_folder.with_name("dinov3-vits16"))


def test_where_refuses_a_folder_without_weights(guidino: Callable[..., Any], tmp_path: Path) -> None:
    outcome = guidino("weights", "where", str(tmp_path))
    assert outcome.code == 4
    assert "a folder without weights" in outcome.stderr


def test_list_and_where_do_not_import_torch(wide_folder: Path) -> None:
    code = (
        "import sys; from guidino_cli.commands import weights, weights_list; weights_list.run(); "
        "weights.run_where(sys.argv[1]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code, str(wide_folder)], capture_output=True).returncode == 0


def test_where_exits_with_4_and_the_download_command_for_missing_weights(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "where", "kvasir-nnwnet")
    assert outcome.code == 4
    assert "guidino weights download dinov3-vits16` (86 MB)" in outcome.stderr


def test_where_of_an_unknown_name_suggests_one(guidino: Callable[..., Any]) -> None:
    outcome = guidino("weights", "where", "dinov3-vitb61")
    assert outcome.code == 2
    assert "did you mean 'dinov3-vitb16'" in outcome.stderr


def test_a_preset_without_a_backbone_has_no_weights(guidino: Callable[..., Any]) -> None:
    assert guidino("weights", "where", "kvasir-plain-unet").code == 2


def test_where_names_the_gate_and_an_ungated_alternative(guidino: Callable[..., Any]) -> None:
    stderr_text = " ".join(guidino("weights", "where", "kvasir-nnwnet").stderr.split())
    assert "accept its licence first at https://huggingface.co/facebook/dinov3-vits16-pretrain-lvd1689m" in stderr_text
    assert "backbone guidino-tiny comes with guidino and needs no hub" in stderr_text
    assert "gated" not in guidino("weights", "where", "dinov2-small").stderr


def test_where_prints_the_licence_beside_the_path(
    guidino: Callable[..., Any], wide_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide_folder.rename(wide_folder.with_name("dinov3-vits16"))
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(wide_folder.parent))
    outcome = guidino("weights", "where", "kvasir-nnwnet")
    assert outcome.stdout.strip() == str(wide_folder.with_name("dinov3-vits16"))
    assert "dinov3-vits16; licence: DINOv3 licence" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("weights", "download", "no such id/at all"), "guidino weights import FILE"),
        (("weights", "where", "./no/such/folder"), "guidino weights import FILE"),
        (("weights", "verify", "facebook/dinov2-small", "--offline"), "guidino weights import FILE"),
    ],
)
def test_hints_of_commands_without_set_do_not_mention_it(
    guidino: Callable[..., Any], arguments: tuple[str, ...], hint: str
) -> None:
    outcome = guidino(*arguments)
    assert outcome.code == 4
    assert "--set" not in outcome.stderr
    assert hint in " ".join(outcome.stderr.split())


@pytest.mark.parametrize("name", ["meta.pth", "renamed.pth"])
def test_satellite_weights_state_their_own_statistics(
    name: str, guidino: Callable[..., Any], meta_file: Path, tmp_path: Path
) -> None:
    source = meta_file.rename(tmp_path / name)
    line = "images are normalised with mean 0.43 0.411 0.296, std 0.213 0.156 0.143"
    assert line in guidino("weights", "import", source, "-o", tmp_path / "out").stdout
    assert line in guidino("weights", "verify", source).stdout
    assert line in guidino("weights", "verify", tmp_path / "out").stdout
    written = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    assert (written["image_mean"], written["image_std"]) == ([0.430, 0.411, 0.296], [0.213, 0.156, 0.143])


def test_statistics_given_to_import_replace_those_of_the_weights(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    arguments = ("weights", "import", wide_folder, "-o", tmp_path / "out")
    given = ("--mean", "0.1,0.2,0.3", "--std", "0.4,0.5,0.6")
    assert "mean 0.1 0.2 0.3, std 0.4 0.5 0.6" in guidino(*arguments, *given).stdout
    for wrong in (given[:2], given[2:], ("--mean", "a,b,c", "--std", "1,1,1"), ("--mean", "1,1,1", "--std", "0,1,1")):
        outcome = guidino(*arguments, "--overwrite", *wrong)
        assert outcome.code == 2
        assert "expected both, as three numbers" in outcome.stderr


def test_a_disk_that_fills_up_during_import_ends_with_7_and_leaves_nothing(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path
) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        outcome = guidino("weights", "import", wide_folder, "-o", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert outcome.code == 7
    assert "out: cannot be written (" in outcome.stderr
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


def test_running_out_of_memory_while_loading_ends_with_7(
    guidino: Callable[..., Any], wide_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    for name in ("require_plausible_size", "from_pretrained_strictly", "read_shards"):
        with monkeypatch.context() as patch:
            patch.setattr(f"guidino_cli.models.pretrained.loading.{name}", fail)
            outcome = guidino("weights", "import", wide_folder, "-o", tmp_path / "out")
        assert outcome.code == 7
        assert "not enough memory" in outcome.stderr


def test_offline_forbids_the_hub_for_the_whole_process(wide_folder: Path) -> None:
    code = (
        "import os, sys; from guidino_cli.cli import app; "
        "app(['weights', 'verify', sys.argv[1], '--offline'], standalone_mode=False); "
        "from huggingface_hub import constants; "
        "sys.exit(not (os.environ['HF_HUB_OFFLINE'] == '1' and constants.HF_HUB_OFFLINE))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    subprocess.run([sys.executable, "-c", code, str(wide_folder)], env=environment, check=True, capture_output=True)
