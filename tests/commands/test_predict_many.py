"""`guidino predict` over many images: what is written down, going on after a stop, sharing, averaging, strips."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.commands.prediction.records import PredictionLog
from guidino_cli.config import parse_config
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.run_folders import lock_run_folder
from guidino_cli.engine.runs.folder import RunFolder, run_facts, with_data_root
from guidino_cli.models import build_model


@pytest.fixture
def make_run(make_data: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """A run with random weights."""

    def make(
        name: str = "run", *, seed: int = 0, resize: str = "stretch", classes: tuple[str, ...] = ("background", "a")
    ) -> Path:
        data = make_data(f"data-{name}", val=12)
        folder = RunFolder(tmp_path / name)
        model_settings = {"segmenter": {"name": "unet", "options": {"width": 4}}}
        settings: dict[str, Any] = {"model": model_settings, "data": {"image_size": 32, "resize": resize}}
        config = with_data_root(parse_config(settings), data)
        torch.manual_seed(seed)
        model = build_model(config.model, num_classes=len(classes)).eval()
        _balance(model, sure=seed)
        folder.create(config, run_facts(model, classes=list(classes), data=data))
        folder.save_weights(model)
        return folder.path

    return make


@torch.no_grad()
def _balance(model: Any, *, sure: float) -> None:
    """Random weights tend to see one class everywhere: move the bias until both are equal, then by `sure`."""
    scores = model(torch.rand(4, 3, 32, 32)).logits[0]
    head = [item for item in model.segmenter.modules() if isinstance(item, torch.nn.Conv2d) and item.out_channels == 2]
    head[-1].bias[1] -= (scores[:, 1] - scores[:, 0]).median() - sure


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Five images, one of them two folders down."""
    generator = np.random.default_rng(0)
    for i, name in enumerate(["a", "b", "c", "d", "x/y/a"]):
        path = tmp_path / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 255, (20 + i, 24, 3)).astype(np.uint8)).save(path)
    return tmp_path / "images"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def mask(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_every_image_has_its_line_and_the_failed_ones_are_listed(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    (images / "b.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    outcome = guidino("predict", make_run(), images, "-o", out)
    assert outcome.code == 6
    assert {item["image"][-5:]: item["status"] for item in lines(out / "predictions.jsonl")} == {
        "a.png": "ok", "b.png": "error", "c.png": "ok", "d.png": "ok",
    }  # fmt: skip
    (failed,) = lines(out / "failed.jsonl")
    assert "cannot be read" in failed["message"]
    summary = json.loads((out / "predictions.json").read_text())
    assert (summary["complete"], summary["made"], summary["failed"]) == (True, 3, 1)
    # Mended, only it is done again.
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(images / "b.png")
    run = tmp_path / "run"
    outcome = guidino("predict", run, images, "-o", out, "--skip-existing")
    assert outcome.code == 0
    assert outcome.stdout.startswith("1 mask in")
    assert not (out / "failed.jsonl").exists()
    assert len(lines(out / "predictions.jsonl")) == 5


def test_an_interruption_keeps_what_was_done_and_says_how_to_go_on(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    from guidino_cli.engine.prediction import predictor

    run, out, original, calls = make_run(), tmp_path / "out", predictor.Predictor.segment, [0]

    def stopped(self: Any, pictures: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return original(self, pictures, **options)

    monkeypatch.setattr(predictor.Predictor, "segment", stopped)
    words = ["predict", run, images, "-o", out, "--set", "predict.batch_size=2"]
    outcome = guidino(*words)
    assert outcome.code == 130
    assert "holds 2 masks" in outcome.stderr
    assert "--skip-existing" in outcome.stderr
    assert json.loads((out / "predictions.json").read_text())["complete"] is False
    assert guidino(*words, "--skip-existing").stdout.startswith("2 masks in")
    assert sorted(path.name for path in out.glob("*.png")) == ["a.png", "b.png", "c.png", "d.png"]


def test_half_a_line_left_by_a_kill_does_not_spoil_the_next(tmp_path: Path) -> None:
    from guidino_cli.commands.prediction.jobs import Shard

    (tmp_path / "predictions.jsonl").write_text('{"image": "a", "status": "ok"}\n{"image": "b", "sta')
    PredictionLog(tmp_path, Shard(1, 1), {}, keep=True).add({"image": "b", "status": "ok"})
    assert json.loads((tmp_path / "predictions.jsonl").read_text().splitlines()[2]) == {"image": "b", "status": "ok"}


def test_a_share_of_an_earlier_making_does_not_make_the_whole_complete(tmp_path: Path) -> None:
    from guidino_cli.commands.prediction.jobs import Shard

    for shard, weights in [(Shard(1, 2), "old"), (Shard(2, 2), "old"), (Shard(1, 2), "new")]:
        facts = {"made_with": {"weights": [weights]}}
        PredictionLog(tmp_path, shard, facts, keep=False).summarise(total=3, complete=True)
    summary = json.loads((tmp_path / "predictions.json").read_text())
    assert (summary["complete"], summary["images"]) == (False, 3)


def test_shares_that_finish_at_the_same_moment_are_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from guidino_cli.commands.prediction import records
    from guidino_cli.commands.prediction.jobs import Shard

    first, second = (PredictionLog(tmp_path, Shard(number, 2), {}, keep=False) for number in (1, 2))
    write, waiting = records.write_text, [second]

    def write_text(path: Path, text: str) -> None:
        # Between the first one's look at the second and its writing, the second finishes.
        if path.name == "predictions.json" and waiting:
            waiting.pop().summarise(total=3, complete=True)
        write(path, text)

    monkeypatch.setattr(records, "write_text", write_text)
    first.summarise(total=2, complete=True)
    summary = json.loads((tmp_path / "predictions.json").read_text())
    assert (summary["complete"], summary["images"]) == (True, 5)


def test_what_shares_failed_at_is_listed_until_it_is_done(tmp_path: Path) -> None:
    from guidino_cli.commands.prediction.jobs import Shard

    for status, is_listed in [("error", True), ("ok", False)]:
        for number in (1, 2):
            records = PredictionLog(tmp_path, Shard(number, 2), {}, keep=True)
            records.add({"image": f"{number}", "status": status})
            records.summarise(total=1, complete=True)
        assert (tmp_path / "failed.jsonl").exists() == is_listed


def test_skipping_makes_what_is_asked_for_beside_masks_that_are_there(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    words = ["predict", make_run(), images, "-o", tmp_path / "out"]
    assert guidino(*words).code == 0
    assert guidino(*words, "--skip-existing", "--overlay").stdout.startswith("4 masks in")
    assert guidino(*words, "--skip-existing", "--overlay").stdout.startswith("0 masks in")


def test_masks_made_otherwise_are_not_left_even_where_overwriting_is_allowed(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    words = ["predict", make_run(), images, "-o", tmp_path / "out"]
    assert guidino(*words).code == 0
    outcome = guidino(*words, "--skip-existing", "--overwrite", "--set", "predict.mirror=false")
    assert outcome.code == 2
    assert "made with mirror true, now it is false" in outcome.stderr


def test_folders_below_keep_their_structure(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    assert guidino("predict", make_run(), images, "-o", tmp_path / "out", "--recursive").code == 0
    found = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png"))
    assert found == ["a.png", "b.png", "c.png", "d.png", "x/y/a.png"]


def test_shards_together_are_the_whole(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    run = make_run()
    guidino("predict", run, images, "-o", tmp_path / "whole")
    assert guidino("predict", run, images, "-o", tmp_path / "out", "--shard", "2/2").code == 0
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["complete"] is False
    # The other one as a rank of torchrun.
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert guidino("predict", run, images, "-o", tmp_path / "out").code == 0
    summary = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert (summary["complete"], summary["images"], summary["made"]) == (True, 4, 4)
    names = [Path(item["image"]).stem for item in lines(tmp_path / "out" / "predictions.jsonl")]
    assert sorted(names) == ["a", "b", "c", "d"]
    for name in names:
        assert np.array_equal(mask(tmp_path / "out" / f"{name}.png"), mask(tmp_path / "whole" / f"{name}.png"))


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems lock folders")
def test_a_folder_that_another_process_predicts_into_is_refused_and_shards_share_one(
    make_run: Callable[..., Path], images: Path, tmp_path: Path, guidino: Callable[..., Any]
) -> None:
    run, out = make_run(), tmp_path / "masks"
    words, one_line = ["predict", run, images, "-o", out], "another guidino process writes to this folder"
    with lock_run_folder(out):
        for more in ((), ("--overwrite",), ("--skip-existing",), ("--shard", "1/2")):
            refused = guidino(*words, *more)
            assert (refused.code, refused.stderr.count("\n")) == (2, 1)
            assert one_line in refused.stderr
        assert list(out.iterdir()) == []
    with lock_run_folder(out, shared=True):
        refused = guidino(*words)
        assert (refused.code, refused.stderr.count("\n")) == (2, 1)
        assert one_line in refused.stderr
        assert list(out.iterdir()) == []
        assert guidino(*words, "--shard", "1/2").code == 0
        assert guidino(*words, "--shard", "2/2").code == 0
    assert json.loads((out / "predictions.json").read_text())["complete"]


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems lock folders")
def test_masks_that_another_process_made_while_the_run_was_loaded_are_not_replaced(
    make_run: Callable[..., Path], images: Path, tmp_path: Path, guidino: Callable[..., Any], monkeypatch: Any
) -> None:
    from guidino_cli.commands import predict

    out, load = tmp_path / "masks", predict.load_ensemble

    def load_slowly(*args: Any, **options: Any) -> Any:
        out.mkdir()
        (out / "a.png").write_bytes(b"of another process")
        return load(*args, **options)

    monkeypatch.setattr(predict, "load_ensemble", load_slowly)
    refused = guidino("predict", make_run(), images, "-o", out)
    assert refused.code == 2
    assert "is not empty" in refused.stderr
    assert (out / "a.png").read_bytes() == b"of another process"


@pytest.mark.parametrize("words", ["0/2", "3/2", "2", "a/b"])
def test_a_share_that_cannot_be_is_refused(
    words: str, guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path
) -> None:
    outcome = guidino("predict", make_run(), images, "-o", "out", "--shard", words)
    assert outcome.code == 2
    assert "expected NUMBER/COUNT" in outcome.stderr


def test_masks_made_otherwise_are_not_mixed(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    run, out = make_run(), tmp_path / "out"
    guidino("predict", run, images, "-o", out)
    outcome = guidino("predict", run, images, "-o", out, "--skip-existing", "--set", "predict.mirror=false")
    assert outcome.code == 2
    assert "made with mirror true, now it is false" in outcome.stderr


def test_strips_write_the_mask_of_the_whole(
    guidino: Callable[..., Any], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run, image = make_run(resize="none"), tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (150, 90, 3)).astype(np.uint8)).save(image)
    guidino("predict", run, image, "-o", tmp_path / "whole")
    assert guidino("predict", run, image, "-o", tmp_path / "out", "--set", "predict.memory_gb=1e-6").code == 0
    whole, strips = mask(tmp_path / "whole" / "a.png"), mask(tmp_path / "out" / "a.png")
    assert 0 < whole.mean() < 1
    assert (whole != strips).mean() < 1e-4
    outcome = guidino("predict", run, image, "-o", tmp_path / "o", "--set", "predict.memory_gb=1e-6", "--overlay")
    assert outcome.code == 3
    assert "does not go with --overlay" in outcome.stderr


def test_an_ensemble_names_all_its_runs_and_is_not_the_first_alone(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    first, second = make_run("one"), make_run("two", seed=1, resize="none")
    guidino("predict", first, images, "-o", tmp_path / "alone", "--save-probabilities")
    guidino("predict", second, images, "-o", tmp_path / "other", "--save-probabilities")
    words = ["predict", first, images, "-o", tmp_path / "both", "--ensemble", second, "--save-probabilities"]
    assert guidino(*words).code == 0
    alone, other, both = (
        np.load(tmp_path / place / "probabilities" / "a.npz")["probabilities"].astype(np.float32)
        for place in ("alone", "other", "both")
    )
    np.testing.assert_allclose(both, (alone + other) / 2, atol=2e-3)
    assert np.abs(both - alone).max() > 0.01
    summary = json.loads((tmp_path / "both" / "predictions.json").read_text())
    assert [item["run"] for item in summary["runs"]] == [str(first), str(second)]


def test_an_ensemble_of_other_classes_is_refused(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    runs = make_run("one"), make_run("two", classes=("background", "b"))
    outcome = guidino("predict", runs[0], images, "-o", tmp_path / "out", "--ensemble", runs[1])
    assert outcome.code == 2
    assert "same classes in the same order" in outcome.stderr


def test_what_tune_post_chose_is_what_auto_does(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    run = make_run()
    outcome = guidino("predict", run, images, "-o", tmp_path / "out", "--post", "auto")
    assert outcome.code == 2
    assert "guidino tune-post" in outcome.stderr
    outcome = guidino("tune-post", run)
    assert outcome.code == 0, outcome.stderr
    chosen = json.loads((run / "post.json").read_text())
    # A rule that leaves nothing at all, so that it is seen.
    chosen["classes"]["a"]["rule"] = {"min_share": 0.999, "largest": False, "fill": False}
    (run / "post.json").write_text(json.dumps(chosen))
    assert guidino("predict", run, images, "-o", tmp_path / "out", "--post", "auto").code == 0
    assert mask(tmp_path / "out" / "a.png").max() == 0
    chosen["made_with"][0]["weights"] = "0" * 64
    (run / "post.json").write_text(json.dumps(chosen))
    outcome = guidino("predict", run, images, "-o", tmp_path / "other", "--post", "auto")
    assert outcome.code == 2
    assert "other weights" in outcome.stderr


def test_rules_are_applied_only_to_masks_made_as_those_they_were_chosen_on(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    first, second = make_run("one"), make_run("two", seed=1)
    words = ["predict", first, images, "-o", tmp_path / "out", "--post", "auto"]
    plain = ("--set", "predict.mirror=false")
    assert guidino("tune-post", first, *plain).code == 0
    mirrored = guidino(*words)
    assert mirrored.code == 2
    assert "was chosen for predict.mirror=false, now it is true; " in mirrored.stderr
    together = guidino(*words, *plain, "--ensemble", second)
    assert together.code == 2
    assert "was chosen for the masks of 1 run, these are of 2; " in together.stderr
    # The way out that is named is one.
    assert f"guidino tune-post {first} --ensemble {second} --set predict.mirror=false" in together.stderr
    assert guidino("tune-post", first, "--ensemble", second, *plain).code == 0
    assert guidino(*words, *plain, "--ensemble", second).code == 0


def test_tune_post_names_the_truth_that_is_of_another_size_than_its_image(
    guidino: Callable[..., Any], make_run: Callable[..., Path], tmp_path: Path
) -> None:
    run = make_run()
    case = next(case for case in load_manifest(tmp_path / "data-run").cases if case.split == "val")
    Image.fromarray(np.zeros((5, 7), dtype=np.uint8)).save(case.mask)
    outcome = guidino("tune-post", run)
    assert outcome.code == 3
    assert f"{case.mask}: is 7x5 px (width x height), its image {case.image} is " in outcome.stderr


def test_tune_post_chooses_the_same_for_images_done_in_strips(
    guidino: Callable[..., Any], make_run: Callable[..., Path]
) -> None:
    run = make_run(resize="none")
    assert guidino("tune-post", run).code == 0
    whole = json.loads((run / "post.json").read_text())
    assert guidino("tune-post", run, "--set", "predict.memory_gb=0.000001").code == 0
    assert json.loads((run / "post.json").read_text())["classes"] == whole["classes"]


def test_the_cost_is_told_before_it_is_paid(
    guidino: Callable[..., Any], make_run: Callable[..., Path], images: Path, tmp_path: Path
) -> None:
    """24 x 20 px fit into one window of 32, four flips."""
    outcome = guidino("predict", make_run(resize="none"), images, "-o", tmp_path / "out")
    assert "4 images on cpu; 24x20 px: 4 passes (windows x flips: 1 x 4 of 32 px)" in outcome.stderr


@pytest.mark.parametrize(
    ("named", "used"), [(None, "cuda:2"), ("cuda", "cuda:2"), ("cuda:0", "cuda:0"), ("cpu", "cpu")]
)
def test_each_rank_of_torchrun_predicts_on_its_own_card(
    named: str | None, used: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--device cuda`, all were on card 0."""
    from guidino_cli.commands.prediction.jobs import local_rank_device

    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert local_rank_device(named) == used
