"""Locating and downloading weights: precedence, offline mode, and a distinct error for every failure."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from guidino_cli.errors import ResourceError, WeightsError
from guidino_cli.models.pretrained.hub import download_weights, fetch_weights, find_weights, is_complete

REPOSITORY = "facebook/dinov3-vits16-pretrain-lvd1689m"
ABSENT = "guidino-tests/no-such-model"


def _complete(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").touch()
    return folder


def _refusal(name: str, status: int, server_message: str) -> Exception:
    import huggingface_hub.errors as errors

    response: Any = SimpleNamespace(headers={}, request=None, status_code=status)
    return getattr(errors, name)(f"{status} Client Error", response=response, server_message=server_message)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A fake hub that counts requests and raises `answer["error"]`."""
    answer: dict[str, Any] = {"requests": 0}

    def snapshot(*_: object, local_files_only: bool = False, **__: object) -> str:
        from huggingface_hub.errors import LocalEntryNotFoundError

        if local_files_only:
            raise LocalEntryNotFoundError("not cached")
        answer["requests"] += 1
        raise answer["error"]

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("GUIDINO_WEIGHTS", raising=False)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    return answer


REFUSALS = [
    ("GatedRepoError", 401, "Access to model x is restricted. Please log in.", "accept its licence at .*hf auth login"),
    ("GatedRepoError", 403, "you are not in the authorized list", "your account has no access yet; accept its licence"),
    (
        "GatedRepoError",
        403,
        "Your request to access model x is awaiting a review",
        "request for access is still pending",
    ),
    ("GatedRepoError", 403, "Your request to access model x has been rejected", "request for access was refused"),
    ("HfHubHTTPError", 401, "Invalid credentials in Authorization header", "token is not valid; create one"),
    ("RepositoryNotFoundError", 401, 'User Access Token "a" is expired', "token is expired; create one"),
    ("RepositoryNotFoundError", 404, "Repository not found", "no such model on the hub, or no access to it"),
    ("HfHubHTTPError", 503, "Service unavailable", "the hub answered 503; try again later"),
]


@pytest.mark.parametrize(
    ("name", "status", "server_message", "expected"), REFUSALS, ids=[row[2][:24] for row in REFUSALS]
)
def test_each_refusal_is_explained_in_one_line(
    name: str, status: int, server_message: str, expected: str, hub: dict[str, Any]
) -> None:
    hub["error"] = _refusal(name, status, server_message)
    with pytest.raises(WeightsError, match=expected) as caught:
        fetch_weights(REPOSITORY, offline=False)
    assert str(caught.value).startswith(f"{REPOSITORY}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_all_refusals_have_distinct_messages(hub: dict[str, Any]) -> None:
    lines = set()
    for name, status, server_message, _ in REFUSALS:
        hub["error"] = _refusal(name, status, server_message)
        with pytest.raises(WeightsError) as caught:
            fetch_weights(REPOSITORY, offline=False)
        lines.add(str(caught.value))
    assert len(lines) == len(REFUSALS)


def test_an_unreachable_hub_is_distinguished_from_a_refusal(hub: dict[str, Any]) -> None:
    hub["error"] = ConnectionError("no route")
    with pytest.raises(WeightsError, match=r"cannot be reached \(ConnectionError\)"):
        fetch_weights(REPOSITORY, offline=False)


def test_a_full_disk_is_a_resource_error(hub: dict[str, Any]) -> None:
    hub["error"] = OSError(28, "No space left on device")
    with pytest.raises(ResourceError, match="HF_HOME"):
        fetch_weights(REPOSITORY, offline=False)


def test_bugs_are_not_reported_as_hub_errors(hub: dict[str, Any]) -> None:
    hub["error"] = AttributeError("a bug")
    with pytest.raises(AttributeError, match="a bug"):
        fetch_weights(REPOSITORY, offline=False)


def test_offline_mode_never_contacts_the_hub(hub: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="not in the local cache, and offline"):
        fetch_weights(ABSENT, offline=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "true")
    with pytest.raises(WeightsError, match="not in the local cache, and offline"):
        fetch_weights(ABSENT, offline=False)
    assert hub["requests"] == 0


def test_a_local_folder_never_contacts_the_hub(hub: dict[str, Any], tmp_path: Path) -> None:
    folder = _complete(tmp_path / "here")
    assert fetch_weights(str(folder), offline=False).path == folder
    assert hub["requests"] == 0


@pytest.mark.parametrize("name", ["dinov3-vits16", "dinov3-vits16-pretrain-lvd1689m"])
def test_the_users_own_weights_folder_takes_precedence_over_the_cache(
    name: str, hub: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = _complete(tmp_path / name)
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(tmp_path))
    assert fetch_weights(REPOSITORY, offline=True).path == folder


def test_a_folder_with_a_shard_missing_is_not_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "dinov3-vits16"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model-1.safetensors").touch()
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    monkeypatch.setenv("GUIDINO_WEIGHTS", str(tmp_path))
    assert find_weights(REPOSITORY) is None
    (folder / "model-2.safetensors").touch()
    assert find_weights(REPOSITORY) is not None


def test_a_repository_without_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(WeightsError, match=r"no config\.json with model\.safetensors"):
        download_weights(ABSENT)


@pytest.mark.parametrize("source", ["/no/such", "./no/such.pth", "no-such", "a/b/c", "a/b.pth", "a b/c"])
def test_sources_that_neither_exist_nor_are_hub_ids_are_refused(source: str) -> None:
    with pytest.raises(WeightsError, match="no such folder or file"):
        find_weights(source)


def test_a_folder_with_a_damaged_index_is_not_complete(tmp_path: Path) -> None:
    folder = _complete(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a"')
    assert not is_complete(folder)


def test_an_interrupted_download_into_a_folder_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def snapshot(*_: object, local_dir: Path, **__: object) -> str:
        seen.append(local_dir)
        if len(seen) == 1:
            local_dir.mkdir()
            (local_dir / "config.json").write_text("{}")
            raise ConnectionError("cut")
        (local_dir / "model.safetensors").touch()
        return str(local_dir)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(WeightsError, match="cannot be reached"):
        download_weights(ABSENT, folder=tmp_path / "mine")
    assert not (tmp_path / "mine").exists()
    assert download_weights(ABSENT, folder=tmp_path / "mine") == tmp_path / "mine"
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"config.json", "model.safetensors"}
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_download_into_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, local_dir, **__: str(_complete(local_dir)))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert download_weights(ABSENT, folder=Path()) == tmp_path / "here"
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"config.json", "model.safetensors"}
