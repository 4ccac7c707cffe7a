"""Shared fixtures: the real command line in this process, tiny prepared data, tiny backbones with random weights."""

import os

# Before huggingface_hub is imported: no test may use the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Threads that spin while they wait take the processor from other tests. Set before anything imports torch.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import contextlib
import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Distribute the whole suite over the cores, at most four; a chosen part of it starts faster in one process."""
    is_whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return min(os.cpu_count() or 1, 4) if is_whole else 0


@dataclass(frozen=True)
class Outcome:
    """Result of a command line: exit code, standard output, standard error."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def guidino(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Run the real `main` in this process: `guidino("train", "--preset", "demo").code`."""
    from guidino_cli.cli import main

    monkeypatch.delenv("GUIDINO_DEBUG", raising=False)

    def call(*argv: object) -> Outcome:
        _reset_accelerator()
        monkeypatch.setattr(sys, "argv", ["guidino", *map(str, argv)])
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return call


@pytest.fixture(scope="session")
def guidino_once() -> Callable[..., None]:
    """Run the real `main` in a session-scoped fixture; its output is shown only if it fails."""

    def call(*argv: object) -> None:
        from guidino_cli.cli import main

        _reset_accelerator()
        output, code = io.StringIO(), 0
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(output),
            contextlib.redirect_stderr(output),
        ):
            patch.setattr(sys, "argv", ["guidino", *map(str, argv)])
            try:
                main()
            except SystemExit as stop:
                code = int(stop.code or 0)
        assert code == 0, output.getvalue()

    return call


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Random numbers of a test are the same whether it runs alone or with others."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps its state for the life of a process, in which a test session has many runs."""
    _reset_accelerator()
    yield
    _reset_accelerator()


@pytest.fixture
def make_data(tmp_path: Path) -> Callable[..., Path]:
    """Make a prepared data folder of bright squares on a dark texture, brighter for higher classes."""
    return partial(_make_data, tmp_path)


@pytest.fixture(scope="session")
def make_data_in() -> Callable[..., Path]:
    """Like `make_data`, for session-scoped fixtures: `make_data_in(tmp_path_factory.mktemp("shared"))`."""
    return _make_data


def _make_data(
    parent: Path, name: str = "data", *, train: int = 4, val: int = 2, test: int = 1,
    size_hw: tuple[int, int] = (40, 48), num_classes: int = 2, seed: int = 0, fold_count: int = 0,
) -> Path:  # fmt: skip
    from guidino_cli.data.image_writing import write_label_map
    from guidino_cli.data.manifest import Manifest, save_manifest
    from guidino_cli.types import Case

    folder, generator, cases = parent / name, np.random.default_rng(seed), []
    (folder / "images").mkdir(parents=True)
    for i, split in enumerate(["train"] * train + ["val"] * val + ["test"] * test):
        pixels = generator.integers(0, 60, (*size_hw, 3)).astype(np.uint8)
        labels = np.zeros(size_hw, dtype=np.uint8)
        for k in range(1, num_classes):
            y, x = generator.integers(0, size_hw[0] - 16), generator.integers(0, size_hw[1] - 16)
            labels[y : y + 14, x : x + 14] = k
        pixels[labels > 0] += (labels[labels > 0] * (180 // num_classes))[:, None].astype(np.uint8)
        image, mask = folder / "images" / f"case{i}.png", folder / "masks" / f"case{i}.png"
        Image.fromarray(pixels).save(image)
        write_label_map(mask, labels)
        fold = i % fold_count if fold_count and split != "test" else None
        cases.append(Case(f"case{i}", image, mask, split, fold, f"case{i}", size_hw, float((labels > 0).mean())))
    save_manifest(Manifest(name, ["background", "a", "b", "c"][:num_classes], cases, {}), folder)
    return folder


@pytest.fixture(scope="session")
def dinov3_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv3 ViT/16 of three narrow blocks and random weights, as transformers saves it."""
    import torch
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    folder = tmp_path_factory.mktemp("dinov3")
    torch.manual_seed(0)
    config = DINOv3ViTConfig(**_narrow_config(), num_register_tokens=4, layerscale_value=1.0)
    DINOv3ViTModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_dinov3_folder(dinov3_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network with other weights, which no seed that guidino uses gives: for tests of random controls."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("other") / "dinov3"
    shutil.copytree(dinov3_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    changed = {name: tensor.flip(0).contiguous() for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def dinov2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv2 ViT/14 of three narrow blocks and random weights, as transformers saves it."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**_narrow_config(), patch_size=14, image_size=56)).save_pretrained(folder)
    return folder


def _narrow_config() -> dict[str, Any]:
    return {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "mlp_ratio": 2,
        # With the default of 0.02, blocks hardly change their input, which would test nothing.
        "initializer_range": 0.2,
    }


def _reset_accelerator() -> None:
    if "accelerate" in sys.modules:
        from accelerate.state import AcceleratorState, GradientState

        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
