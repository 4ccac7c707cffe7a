"""`guidino card`, and `predict` from its folder and from the hub: the real command line and the recorded run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from huggingface_hub.errors import RevisionNotFoundError
from huggingface_hub.utils import filter_repo_objects
from PIL import Image

from guidino_cli.engine.prediction.ensemble import weights_hash

RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
Guidino = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The recorded run, whose files name folders of this machine."""
    run = tmp_path / "secret home" / "nuclei"
    shutil.copytree(RECORDED / "guided", run)
    data = tmp_path / "secret home" / "data"
    shutil.copytree(RECORDED / "data", data)
    shutil.copytree(RECORDED / "src", tmp_path / "secret home" / "src")
    change(run, data={**facts_of(run)["data"], "cases": str(data / "cases.json")})
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["root"] = config["train"]["dense_cache_folder"] = str(data)
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    return run


@pytest.fixture
def report(run: Path, tmp_path: Path) -> Path:
    """What `guidino evaluate` writes, as far as a card reads it."""
    row = {"target": "nucleus", "metric": "dice", "unit": "", "mean": 0.8, "ci_low": 0.75, "ci_high": 0.85}
    distance = row | {"metric": "hd95", "unit": "px", "mean": None, "ci_low": None, "ci_high": None}
    content = {
        "summary": [row | {"used": 9, "total": 10}, distance | {"used": 0, "total": 10}],
        "truth": f"test split of {tmp_path / 'secret home' / 'data'} (10 cases)",
        "runs": [str({"run": str(run), "weights": weights_hash(run), "backbone": None})],
        "definitions": {"interval": "95 % percentile bootstrap of the mean, 2000 draws", "hd95": "both directions"},
        "counts": {"cases": 10, "scored": 9, "missing": 1, "failed": 0},
    }
    folder = tmp_path / "report"
    folder.mkdir()
    (folder / "report.json").write_text(json.dumps(content))
    return folder


def facts_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "run.json").read_text())


def change(run: Path, **entries: Any) -> None:
    (run / "run.json").write_text(json.dumps({**facts_of(run), **entries}))


def metadata(card: Path) -> dict[str, Any]:
    return yaml.safe_load(card.read_text().split("---\n")[1])


def require_recorded_masks(folder: Path) -> None:
    masks = sorted(folder.glob("*.png"))
    assert len(masks) == 2
    for mask in masks:
        assert np.array_equal(np.asarray(Image.open(mask)), np.asarray(Image.open(RECORDED / "expected" / mask.name)))


def test_masks_from_the_folder_are_those_of_the_run_bit_for_bit(guidino: Guidino, run: Path, tmp_path: Path) -> None:
    outcome = guidino("card", run, "-o", tmp_path / "model")
    assert outcome.code == 0, outcome.stderr
    model = tmp_path / "model"
    assert (model / "model.safetensors").read_bytes() == (run / "best" / "model.safetensors").read_bytes()
    assert weights_hash(model) == weights_hash(run)
    assert guidino("predict", model, tmp_path / "secret home" / "data", "-o", tmp_path / "masks").code == 0
    require_recorded_masks(tmp_path / "masks")


def test_no_file_names_a_folder_of_this_machine(guidino: Guidino, run: Path, report: Path, tmp_path: Path) -> None:
    change(run, command=["guidino", "train", "--data", "/home/me"], origin={"run": str(run), "sha256": "0" * 64})
    (run / "post.json").write_text(json.dumps({"validation": str(run), "runs": [str(run)]}))
    assert guidino("card", run, "-o", tmp_path / "model", "--scores", report).code == 0
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "README.md", "config.json", "config.yaml", "model.safetensors", "post.json", "run.json",
    }  # fmt: skip
    for path in files:
        content = path.read_bytes()
        assert b"secret home" not in content
        assert b"/home/me" not in content
    assert facts_of(tmp_path / "model")["origin"]["run"] == "nuclei"


def test_the_card_states_classes_data_scores_with_intervals_and_licences(
    guidino: Guidino, run: Path, report: Path, tmp_path: Path
) -> None:
    words = ("--license", "cc-by-nc-4.0", "--name", "Nuclei\n# at once", "--dataset", "Sample data, BSD-3-Clause")
    assert guidino("card", run, "-o", tmp_path / "model", "--scores", report, *words).code == 0
    card = tmp_path / "model" / "README.md"
    text = card.read_text()
    assert "\n# Nuclei # at once\n" in text
    assert "| 1 | nucleus |" in text
    assert (
        "- Sample data, BSD-3-Clause\n- Data set `src`: 8 images, 5 for training, 1 for validation, 2 for test" in text
    )
    assert "**test split of data (10 cases)**" in text
    assert "| Dice, nucleus | 0.800 | 0.750 to 0.850 | 9 of 10 |" in text
    assert "| HD95, nucleus (px) | - | - | 0 of 10 |" in text
    assert "9 of 10 cases scored, 1 missing or failed and counted as failures" in text
    assert "not a medical device" in text
    assert "It learned from 5 cases only" in text
    assert "features of guidino-tiny (blocks 1-6 of DINOv2-S/14 derived, 8 bits), licence: Apache-2.0" in text
    # As the hub reads it.
    from huggingface_hub import ModelCard

    data = ModelCard.load(card).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("guidino", "image-segmentation", "cc-by-nc-4.0")
    assert [(item.metric_type, item.metric_value) for item in data.eval_results] == [("dice", 0.8)]
    labels = json.loads((tmp_path / "model" / "config.json").read_text())["id2label"]
    assert labels == {"0": "background", "1": "nucleus"}


@pytest.mark.parametrize(
    ("truth", "title"),
    [
        ("val split of data (1 case)", "val split of data (1 case)"),
        ("all splits of /secret home/data (8 cases)", "all splits of data (8 cases)"),
    ],
)
def test_scores_on_cases_of_the_training_are_called_too_good(
    truth: str, title: str, guidino: Guidino, run: Path, report: Path, tmp_path: Path
) -> None:
    content = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps(content | {"truth": truth}))
    assert guidino("card", run, "-o", tmp_path / "model", "--scores", report).code == 0
    text = (tmp_path / "model" / "README.md").read_text()
    assert f"**{title}**" in text
    assert "scores on new images will be lower" in text


def test_without_scores_and_licence_the_card_says_so(guidino: Guidino, run: Path, tmp_path: Path) -> None:
    (tmp_path / "secret home" / "data" / "cases.json").unlink()
    assert guidino("card", run, "-o", tmp_path / "model").code == 0
    text = (tmp_path / "model" / "README.md").read_text()
    assert "None were measured" in text
    assert "their author has stated no licence" in text
    assert "No more is recorded than the SHA-256" in text
    assert not {"license", "model-index", "metrics"} & set(metadata(tmp_path / "model" / "README.md"))


def set_dinov3(run: Path, **entries: Any) -> None:
    backbone = {
        "weights": "/mnt/facebook/dinov3-vits16-pretrain-lvd1689m",
        "licence": "DINOv3 licence",
        "sha256": "0" * 64,
    }
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["backbone"] = {"name": "dinov3", "options": {"weights": backbone["weights"]}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    change(run, backbone=backbone, **entries)


def test_a_frozen_dinov3_is_named_with_its_licence_and_its_place_on_the_hub(
    guidino: Guidino, run: Path, tmp_path: Path
) -> None:
    set_dinov3(run)
    assert guidino("card", run, "-o", tmp_path / "model", "--license", "mit").code == 0
    card = tmp_path / "model" / "README.md"
    text = card.read_text()
    assert "[DINOv3 licence](https://ai.meta.com/resources/models-and-libraries/dinov3-license/)" in text
    assert "those weights are not in this folder" in text
    assert "It is gated: accept its licence at https://huggingface.co/facebook/dinov3-vits16" in text
    assert metadata(card)["base_model"] == "facebook/dinov3-vits16-pretrain-lvd1689m"
    assert metadata(card)["license"] == "mit"
    config = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())
    assert config["model"]["backbone"]["options"]["weights"] == "facebook/dinov3-vits16-pretrain-lvd1689m"


def test_known_weights_of_a_relative_folder_are_named_by_their_place_on_the_hub_too(
    guidino: Guidino, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_dinov3(run)
    name = "weights/dinov3-vits16-pretrain-lvd1689m"
    (tmp_path / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"]["backbone"]["options"]["weights"] = name
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert guidino("card", run, "-o", tmp_path / "model").code == 0
    shared = yaml.safe_load((tmp_path / "model" / "config.yaml").read_text())
    assert shared["model"]["backbone"]["options"]["weights"] == "facebook/dinov3-vits16-pretrain-lvd1689m"


def test_weights_that_derive_from_dinov3_are_passed_on_under_its_licence_alone(
    guidino: Guidino, run: Path, tmp_path: Path
) -> None:
    set_dinov3(run, blueprint={})
    licence = tmp_path / "licence.txt"
    arguments = ("card", run, "-o", tmp_path / "model")
    other = guidino(*arguments, "--license", "mit")
    assert other.code == 2
    assert "may be passed on only under its licence" in other.stderr
    without_copy = guidino(*arguments, "--push", "me/model")
    assert without_copy.code == 2
    assert "add --license-file FILE" in without_copy.stderr
    assert guidino(*arguments, "--license-file", licence).code == 3
    licence.write_text(" ")
    assert "is empty" in guidino(*arguments, "--license-file", licence).stderr
    assert not (tmp_path / "model").exists()
    licence.write_text("DINOv3 License")
    assert guidino(*arguments, "--license-file", licence).code == 0
    assert (tmp_path / "model" / "LICENSE").read_text() == "DINOv3 License"
    head = metadata(tmp_path / "model" / "README.md")
    assert (head["license"], head["license_name"]) == ("other", "dinov3-license")


@pytest.mark.parametrize(
    ("entries", "code", "message"),
    [
        ({"runs": ["{'run': 'r/b', 'weights': 'ab'}"]}, 2, "scores masks of another run"),
        ({"runs": ["a", "b"]}, 2, "an ensemble of 2 runs"),
        ({"summary": [{"metric": "dice"}]}, 3, "no report of `guidino evaluate`"),
        ({"summary": 3}, 3, "no report of `guidino evaluate`"),
        ({"truth": ""}, 3, "no report of `guidino evaluate`"),
    ],
)
def test_reports_of_other_runs_and_damaged_ones_are_refused(
    entries: dict[str, Any], code: int, message: str, guidino: Guidino, run: Path, report: Path, tmp_path: Path
) -> None:
    content = json.loads((report / "report.json").read_text())
    (report / "report.json").write_text(json.dumps(content | entries))
    outcome = guidino("card", run, "-o", tmp_path / "model", "--scores", report)
    assert outcome.code == code
    assert message in outcome.stderr
    assert not (tmp_path / "model").exists()


def test_places_that_cannot_be_meant_are_refused(guidino: Guidino, run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    reasons: dict[tuple[Any, ...], str] = {
        (run, "-o", tmp_path / "mine", "--overwrite"): "holds files that guidino did not write",
        (run, "-o", run, "--overwrite"): "holds the input",
        (run, "-o", tmp_path / "a", "--license", "Apache 2"): "expected an identifier of the hub",
        (run, "-o", tmp_path / "a", "--push", "model"): "expected ORGANISATION/NAME",
        (run, "-o", tmp_path / "a", "--push", "lab/model@v2"): "leave out @v2",
        (run, "-o", tmp_path / "a", "--scores", tmp_path / "mine"): "no report",
        (tmp_path / "mine", "-o", tmp_path / "a"): "no config.yaml",
    }
    for arguments, reason in reasons.items():
        outcome = guidino("card", *arguments)
        assert outcome.code in {2, 3}
        assert reason in outcome.stderr
    assert guidino("card", run, "-o", tmp_path / "a").code == 0
    assert "add --overwrite" in guidino("card", run, "-o", tmp_path / "a").stderr
    assert guidino("card", run, "-o", tmp_path / "a", "--overwrite").code == 0


class FakeHub:
    """What `HfApi` is asked for; `status` is that of a refusal."""

    def __init__(self, status: int | None = None) -> None:
        self.status, self.calls, self.files = status, [], set()

    def create_repo(self, name: str, **options: Any) -> str:
        if self.status is not None:
            error = RuntimeError("refused")
            error.response = SimpleNamespace(status_code=self.status)  # type: ignore[attr-defined]
            raise error
        self.calls.append((name, options))
        return f"https://huggingface.co/{name}"

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str, delete_patterns: list[str]) -> None:
        self.calls.append((repo_id, commit_message))
        self.deleted = delete_patterns
        self.files = {path.name for path in Path(folder_path).iterdir()}


@pytest.mark.parametrize("is_public", [False, True])
def test_push_uploads_the_folder_to_a_model_that_is_private_unless_it_is_said(
    is_public: bool, guidino: Guidino, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    words = ["--public"] if is_public else []
    outcome = guidino("card", run, "-o", tmp_path / "model", "--push", "my-lab/nuclei", *words)
    assert outcome.code == 0, outcome.stderr
    assert hub.calls[0] == ("my-lab/nuclei", {"private": not is_public, "exist_ok": True})
    assert hub.files == {"README.md", "config.json", "config.yaml", "model.safetensors", "run.json"}
    # What an earlier run left there would be used with these weights; what the author added stays.
    there = ["post.json", "risk.json", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"]
    kept = ["example.png", "examples/post.json", "CITATION.md", "LICENSE"]
    assert list(filter_repo_objects([*there, *kept], allow_patterns=hub.deleted)) == there
    assert "hf:my-lab/nuclei" in outcome.stdout
    assert "guidino predict hf:my-lab/nuclei" in (tmp_path / "model" / "README.md").read_text()


def test_a_refused_upload_ends_with_4_and_keeps_the_folder(
    guidino: Guidino, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: FakeHub(403))
    outcome = guidino("card", run, "-o", tmp_path / "model", "--push", "my-lab/nuclei")
    assert outcome.code == 4
    assert "hf auth login" in outcome.stderr
    assert (tmp_path / "model" / "README.md").is_file()


def test_a_revision_that_a_model_of_the_hub_lacks_is_named(
    guidino: Guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        response = httpx.Response(404, request=httpx.Request("GET", "https://huggingface.co"))
        raise RevisionNotFoundError("404", response=response)

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    outcome = guidino("predict", "hf:my-lab/nuclei@v9", tmp_path, "-o", tmp_path / "masks")
    assert outcome.code == 4
    assert "my-lab/nuclei: has no branch, tag or commit v9" in outcome.stderr


def test_predict_takes_a_model_of_the_hub_from_its_cache(
    guidino: Guidino, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    missing = guidino("predict", "hf:my-lab/nuclei", tmp_path, "-o", tmp_path / "masks", "--offline")
    assert missing.code == 4
    assert "hf:my-lab/nuclei: not in the hub's cache, and offline" in missing.stderr
    # As huggingface_hub keeps it.
    place = tmp_path / "cache" / "models--my-lab--nuclei"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("a" * 40)
    assert guidino("card", run, "-o", place / "snapshots" / ("a" * 40)).code == 0
    data = tmp_path / "secret home" / "data"
    assert guidino("predict", "hf:my-lab/nuclei", data, "-o", tmp_path / "masks", "--offline").code == 0
    require_recorded_masks(tmp_path / "masks")
    assert guidino("predict", "hf:nuclei", data, "-o", tmp_path / "masks").code == 2
    (place / "snapshots" / ("a" * 40) / "config.yaml").unlink()
    foreign = guidino("predict", "hf:my-lab/nuclei@main", data, "-o", tmp_path / "masks", "--offline")
    assert foreign.code == 4
    assert "no model of guidino" in foreign.stderr
