"""`guidino export`: the file computes what the run does, says what it is, and is not written where it does not."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from guidino_cli.commands.export import accepted_difference
from guidino_cli.commands.export_recipe import prediction_recipe
from guidino_cli.config import RunConfig, dump_config
from guidino_cli.engine.runs.folder import RunFolder, run_facts
from guidino_cli.engine.runs.loading import load_run
from guidino_cli.models import build_model
from guidino_cli.models.logit_prior import LogitPrior

SIDE = 32
RECORDED = Path(__file__).parents[1] / "compatibility" / "run_45086b3"
SCRIPT = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


@pytest.fixture
def make_run(tmp_path: Path, make_data: Callable[..., Path]):
    """A run folder with random weights: guided, or plain."""

    def make(*, guided: bool) -> Path:
        from guidino_cli.config import parse_config

        backbone = {"name": "random", "options": {"hidden_size": 32, "depth": 1, "heads": 2}}
        guide = {"at": "bottleneck", "options": {"prototypes": 4, "aggregate": "softmax"}}
        extra = {"backbone": backbone, "guide": guide} if guided else {}
        segmenter = {"name": "unet", "options": {"width": 4}}
        config = parse_config({"model": {"segmenter": segmenter, **extra}, "data": {"image_size": SIDE}})
        torch.manual_seed(0)
        model, data, folder = build_model(config.model, num_classes=2, offline=True), make_data(), tmp_path / "run"
        run = RunFolder(folder)
        run.create(config, run_facts(model, classes=["background", "a"], data=data))
        run.save_weights(model)
        return folder

    return make


def _ours(run: Path, image: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    model, _, _ = load_run(run)
    with torch.no_grad():
        found = model(image)
    return found.logits[0].softmax(dim=1).numpy(), found.guide


def test_a_guided_network_as_torch_export_gives_the_same_probabilities(guidino, make_run, tmp_path: Path) -> None:
    run, out = make_run(guided=True), tmp_path / "model.pt2"
    outcome = guidino("export", run, "-o", out)
    assert outcome.code == 0, outcome.stderr
    program = torch.export.load(out).module()
    for batch in (1, 3):
        image = torch.rand(batch, 3, SIDE, SIDE)
        probabilities, guide = program(image)
        np.testing.assert_allclose(probabilities.detach().numpy(), _ours(run, image)[0], atol=1e-5)
        assert guide.shape == (batch, 1, SIDE, SIDE)
    about = json.loads((tmp_path / "model.pt2.json").read_text())
    assert about["input"]["shape"] == [None, 3, SIDE, SIDE]
    assert about["classes"] == ["background", "a"]
    assert about["backbone"]["sha256"] == load_run(run)[2]["backbone"]["sha256"]
    assert about["max_abs_difference"] <= 1e-4
    assert list(about["outputs"]) == ["probabilities", "guide"]


@pytest.mark.slow
def test_a_plain_network_as_onnx_gives_the_same_probabilities(guidino, make_run, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run, out = make_run(guided=False), tmp_path / "model.onnx"
    outcome = guidino("export", run, "-o", out)
    assert outcome.code == 0, outcome.stderr
    assert f"any number of windows of {SIDE}x{SIDE} px" in outcome.stdout
    session = onnxruntime.InferenceSession(str(out))
    for batch in (1, 3):
        image = torch.rand(batch, 3, SIDE, SIDE)
        (probabilities,) = session.run(None, {"image": image.numpy()})
        np.testing.assert_allclose(probabilities, _ours(run, image)[0], atol=1e-5)
    about = json.loads((tmp_path / "model.onnx.json").read_text())
    assert about["input"]["shape"] == [None, 3, SIDE, SIDE]


def test_with_batch_the_file_takes_that_size_only(guidino, make_run, tmp_path: Path) -> None:
    run, out = make_run(guided=False), tmp_path / "model.pt2"
    outcome = guidino("export", run, "-o", out, "--batch", 2)
    assert outcome.code == 0, outcome.stderr
    program = torch.export.load(out).module()
    image = torch.rand(2, 3, SIDE, SIDE)
    np.testing.assert_allclose(program(image)[0].detach().numpy(), _ours(run, image)[0], atol=1e-5)
    with pytest.raises(Exception, match="2"):
        program(image[:1])
    assert json.loads((tmp_path / "model.pt2.json").read_text())["input"]["shape"] == [2, 3, SIDE, SIDE]


def test_a_file_that_computes_something_else_is_not_kept(
    guidino, make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_: object, place: Path, **__: object):
        place.write_bytes(b"a file")
        return lambda image: [np.zeros((len(image), 2, SIDE, SIDE), dtype=np.float32)]

    monkeypatch.setattr("guidino_cli.commands.export.export_model", wrong)
    run = make_run(guided=False)
    before = sorted(tmp_path.iterdir())
    outcome = guidino("export", run, "-o", tmp_path / "model.pt2")
    assert outcome.code == 2
    assert "not written, for its results differ" in outcome.stderr
    assert sorted(tmp_path.iterdir()) == before


def test_results_that_are_no_numbers_are_no_match(make_run) -> None:
    from guidino_cli.engine.exporting import max_abs_difference

    model, _, _ = load_run(make_run(guided=False))
    shape = (1, 3, SIDE, SIDE)
    gap = max_abs_difference(model, lambda _: [np.full((1, 2, SIDE, SIDE), np.nan)], image_shape=shape)
    assert gap == float("inf")


def test_onnx_without_its_packages_ends_with_5(guidino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("guidino_cli.engine.exporting.find_spec", lambda _: None)
    (tmp_path / "config.yaml").write_text(dump_config(RunConfig()))
    outcome = guidino("export", tmp_path, "-o", tmp_path / "model.onnx")
    assert outcome.code == 5
    assert "guidino[export]" in outcome.stderr


@pytest.mark.parametrize(("name", "message"), [("model.pth", "ends in .pt2 or .onnx"), ("there.pt2", "exists")])
def test_places_that_cannot_be_meant_are_refused(name: str, message: str, guidino, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(RunConfig()))
    (tmp_path / "there.pt2").write_text("mine")
    outcome = guidino("export", tmp_path, "-o", tmp_path / name)
    assert outcome.code == 2
    assert message in outcome.stderr


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, guidino_once: Callable[..., None]) -> Path:
    """ONNX file of a trained run, with its description."""
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    out = tmp_path_factory.mktemp("export") / "model.onnx"
    guidino_once("export", RECORDED / "guided", "-o", out)
    return out


def _segment_without_guidino(network: Path, image: Path, mask: Path) -> np.ndarray:
    """The mask that the example script makes, in a process that has no guidino and no torch."""
    blocked = "import sys; sys.modules['torch'] = sys.modules['guidino_cli'] = None; sys.argv = sys.argv[1:]; "
    run = f"import runpy; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    subprocess.run([sys.executable, "-c", blocked + run, SCRIPT, network, image, mask], check=True)
    return np.asarray(Image.open(mask))


@pytest.mark.slow
def test_the_recipe_alone_leads_to_the_recorded_masks(exported: Path, tmp_path: Path) -> None:
    images = sorted((RECORDED / "src" / "images").iterdir())[:2]
    for image in images:
        mask = _segment_without_guidino(exported, image, tmp_path / "mask.png")
        assert np.array_equal(mask, np.asarray(Image.open(RECORDED / "expected" / image.name)))
        assert len(np.unique(mask)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("size", [(48, 40), (90, 24), (24, 90)])
@pytest.mark.parametrize("resize", ["stretch", "longer", "shorter"])
def test_the_recipe_leads_to_the_mask_of_resized_images(
    resize: str, size: tuple[int, int], exported: Path, guidino, tmp_path: Path
) -> None:
    # The same network in another grid: only the recipe differs.
    run, image = tmp_path / "run", tmp_path / "a.png"
    shutil.copytree(RECORDED / "guided", run)
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace("resize: none", f"resize: {resize}"))
    shutil.copy(exported, tmp_path / "model.onnx")
    facts = json.loads(exported.with_name("model.onnx.json").read_text())
    facts["recipe"] = prediction_recipe(RunFolder(run).config())
    (tmp_path / "model.onnx.json").write_text(json.dumps(facts))
    source = next(iter(sorted((RECORDED / "src" / "images").iterdir())))
    Image.open(source).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(image)
    assert guidino("predict", run, image, "-o", tmp_path / "out").code == 0
    ours = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    theirs = _segment_without_guidino(tmp_path / "model.onnx", image, tmp_path / "mask.png")
    assert ours.shape == theirs.shape == size[::-1]
    assert len(np.unique(ours)) == 2
    assert np.array_equal(ours, theirs)


def test_a_run_on_volumes_is_refused_in_one_line(
    guidino, make_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(guided=False)
    loaded = load_run(run)
    monkeypatch.setattr(
        "guidino_cli.commands.export.load_run", lambda *_, **__: (*loaded[:2], {**loaded[2], "volumes": {"dims": 2}})
    )
    outcome = guidino("export", run, "-o", tmp_path / "model.pt2")
    assert outcome.code == 2
    assert "was trained on volumes" in outcome.stderr
    assert not (tmp_path / "model.pt2").exists()


def test_more_difference_is_accepted_where_the_logit_of_a_guide_is_used(make_run) -> None:
    """One bit of a guide near 1 moves its logit by much more than 1e-4."""
    prior = LogitPrior(maps=1, channels=1, has_noise=False)
    guide = torch.tensor(0.999996)
    moved = prior.evidence(guide) - prior.evidence(torch.nextafter(guide, torch.tensor(0.0)))
    assert float(moved) == pytest.approx(0.015, abs=0.001)
    model, _, _ = load_run(make_run(guided=False), offline=True)
    assert accepted_difference(None, model) == 1e-4
    model.prior = prior
    assert accepted_difference(None, model) == 1e-3
    assert accepted_difference(0.0, model) == 0
