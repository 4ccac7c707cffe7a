"""Folders of strangers: wrong settings, code from a hub, any JSON and any damage end in `WeightsError`."""

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from guidino_cli.errors import ResourceError, WeightsError
from guidino_cli.models.pretrained.files import read_tensors
from guidino_cli.models.pretrained.loading import LoadedNetwork, load_network
from guidino_cli.models.pretrained.statistics import IMAGENET, read_statistics


def fuzz(examples: int) -> Any:
    return settings(
        max_examples=examples, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DINOv3 of two narrow blocks, with statistics."""
    from transformers import DINOv3ViTConfig, DINOv3ViTModel

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("dinov3")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    DINOv3ViTModel(DINOv3ViTConfig(**sizes)).save_pretrained(path)
    statistics = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (path / "preprocessor_config.json").write_text(json.dumps(statistics))
    return path


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def _load(path: Path) -> LoadedNetwork:
    return load_network(str(path), family=None, offline=True)


def _change(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Calls of `kernels.get_kernel`, the function that downloads and runs code."""
    calls: list[Any] = []
    module = ModuleType("kernels")
    module.get_kernel = lambda *arguments, **_: calls.append(arguments)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kernels", module)
    yield calls
    assert not calls


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
@pytest.mark.parametrize("value", ["kernels-community/flash-attn", "a/b@main:f", {"": "kernels-community/x"}, 3])
def test_a_kernel_of_a_hub_is_refused_by_the_name_of_its_key(key: str, value: Any, copy: Path, hub: list[Any]) -> None:
    _change(copy, **{key: value})
    with pytest.raises(WeightsError, match=rf"config.json: {key} is .*code on a hub"):
        _load(copy)


def test_an_ordinary_kind_of_attention_and_unknown_keys_are_ignored(copy: Path, hub: list[Any]) -> None:
    before = _load(copy).identity["sha256"]
    _change(copy, attn_implementation="eager", use_kernels=True, trust_remote_code=True, torch_dtype="float16", x=[1])
    loaded = _load(copy)
    assert loaded.identity["sha256"] == before
    assert not hasattr(loaded.network.config, "use_kernels")
    assert loaded.network.dtype == torch.float32


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("quantization_config", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
        ("auto_map", {"AutoModel": "someone/repository--code.Model"}),
    ],
)
def test_quantisation_and_own_code_are_refused_by_name(key: str, value: Any, copy: Path) -> None:
    _change(copy, **{key: value})
    with pytest.raises(WeightsError, match=f"{key} is set"):
        _load(copy)


def test_an_adapter_beside_the_weights_is_refused_by_name(copy: Path) -> None:
    (copy / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/else"}')
    with pytest.raises(WeightsError, match=r"adapter_config\.json"):
        _load(copy)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", 3.0),
        ("patch_size", 0),
        ("patch_size", [16, 8]),
        ("hidden_act", "os.system"),
        ("hidden_act", ["gelu"]),
        ("hidden_size", 10**5),
        ("hidden_size", True),
        ("num_attention_heads", 3),
        ("num_channels", 4),
        ("num_register_tokens", -1),
        ("rope_theta", 0),
        ("layer_norm_eps", float("nan")),
        ("drop_path_rate", 1.5),
        ("image_size", "224"),
        ("use_gated_mlp", 1),
        ("model_type", ["dinov3_vit"]),
    ],
)
def test_implausible_settings_are_refused_before_a_network_is_built(key: str, value: Any, copy: Path) -> None:
    _change(copy, **{key: value})
    with pytest.raises(WeightsError, match=r"copy"):
        _load(copy)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**12) | st.just("gelu"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
KEYS = [
    "model_type", "patch_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "hidden_act", "rope_theta", "layer_norm_eps", "image_size", "num_channels", "query_bias", "key_bias",
    "use_gated_mlp", "num_register_tokens", "pos_embed_rescale", "drop_path_rate", "attn_implementation",
    "vision_config", "pretrained_cfg", "architecture", "auto_map", "quantization_config", "dtype", "id2label",
]  # fmt: skip


def _loads_or_is_refused(path: Path) -> None:
    with suppress(WeightsError, ResourceError):
        _load(path)


@fuzz(200)
@given(st.dictionaries(st.sampled_from(KEYS), JSON, min_size=1, max_size=3), st.booleans())
def test_any_values_in_config_json_are_loaded_or_refused(folder: Path, values: dict[str, Any], alone: bool) -> None:
    path = folder / "config.json"
    before = path.read_text()
    try:
        path.write_text(json.dumps(values if alone else {**json.loads(before), **values}))
        _loads_or_is_refused(folder)
    finally:
        path.write_text(before)


@fuzz(200)
@given(
    JSON
    | st.dictionaries(
        st.sampled_from(["image_mean", "image_std", "do_normalize", "do_rescale", "rescale_factor"]),
        JSON | st.lists(st.floats(), min_size=3, max_size=3),
    )
)
def test_any_preprocessor_file_is_read_or_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(content))
    with suppress(WeightsError):
        mean, std = read_statistics(tmp_path, source="x", default=IMAGENET)
        assert torch.isfinite(torch.tensor([mean, std])).all()


@pytest.fixture(scope="module")
def files(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same weights as bytes of each kind of file."""
    tensors = load_file(folder / "model.safetensors")
    place = tmp_path_factory.mktemp("files")
    torch.save(tensors, place / "zip.pth")
    torch.save(tensors, place / "pickle.pth", _use_new_zipfile_serialization=False)
    return {
        "safetensors": (folder / "model.safetensors").read_bytes(),
        "zip": (place / "zip.pth").read_bytes(),
        "pickle": (place / "pickle.pth").read_bytes(),
    }


@pytest.mark.parametrize("kind", ["safetensors", "zip", "pickle"])
@fuzz(80)
@given(data=st.data())
def test_a_damaged_weight_file_is_read_or_refused(
    kind: str, files: dict[str, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(files[kind])
    # Headers and tables are at both ends.
    near_an_end = st.integers(0, 3000) | st.integers(len(content) - 3000, len(content) - 1)
    for position, value in data.draw(st.lists(st.tuples(near_an_end, st.integers(0, 255)), max_size=4)):
        content[position] = value
    path = tmp_path / "w.pth"
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    with suppress(WeightsError, ResourceError):
        read_tensors(path)
