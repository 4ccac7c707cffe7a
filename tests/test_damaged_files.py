"""Every reader on damaged files: an answer or one line that names the file, and never another exception.

`tests/fuzz.py` does the same with whole commands, for as long as you like.
"""

import gzip
import io
import json
import random
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fuzzing import mutators
from fuzzing.mutators import Mutator, mutate
from fuzzing.specimens import Specimen, image_specimens, mask_specimens, scan_specimens
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from guidino_cli.commands.run_sets.plan import load_plan
from guidino_cli.commands.runs.result import read_result
from guidino_cli.config import load_preset, presets_folder
from guidino_cli.data import images, readers
from guidino_cli.data.manifest import load_manifest
from guidino_cli.data.regions import read_size
from guidino_cli.data.volumes.slices import SliceSettings, cut_slices, open_grey_volume
from guidino_cli.engine.checkpointing import StateFolder
from guidino_cli.engine.prediction.postprocessing import load_rules
from guidino_cli.engine.run_folders import read_history
from guidino_cli.engine.runs.facts import read_run_facts
from guidino_cli.errors import ConfigError, DataError, WeightsError
from guidino_cli.evaluation.baseline import load_baseline
from guidino_cli.evaluation.truths import read_pairs
from guidino_cli.models.pretrained.config_files import read_json_object
from guidino_cli.models.pretrained.files import read_tensors
from guidino_cli.models.pretrained.saving import read_import_record
from guidino_cli.preparation.generic_layouts import detect_csv, read_group_table
from guidino_cli.pretrain_config import pretrain_presets_folder, read_pretrain_config
from guidino_cli.tables import read_csv

_SEEDS = st.integers(0, 2**32)


def _cases(count: int) -> Any:
    """The same damage in every run of the suite; it cannot be made simpler, so that shrinking would only take time."""
    return settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def _require_answer_or_line(read: Callable[[Path], Any], path: Path, expected: tuple[type[Exception], ...]) -> None:
    try:
        read(path)
    except expected as error:
        message = str(error)
        assert path.name in message or path.parent.name in message
        assert len(message.splitlines()) == 1


def _check(
    read: Callable[[Path], Any], path: Path, content: bytes, mutation: Sequence[Mutator], seed: int, *expected: Any
) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(mutate(random.Random(seed), content, mutation))
    _require_answer_or_line(read, path, expected)


def _preset(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


_MANIFEST = {
    "format": 1, "name": "x", "classes": ["background", "a"], "source": {"layout": "csv"},
    "cases": [
        {"id": f"c{n}", "image": f"i/{n}.png", "mask": None if n else "m.png", "split": "train", "fold": n,
         "group": "g", "size_hw": [4, 5], "foreground": 0.5, "fields": {"scanner": "A"}} for n in range(3)
    ],
}  # fmt: skip
_FACTS = {
    "format": 1, "classes": ["background", "a"], "data": {"cases": "c", "sha256": "0"},
    "backbone": {"weights": "w", "sha256": "0", "mean": [0.5, 0.5, 0.5]}, "origin": {"run": "r", "sha256": "0"},
}  # fmt: skip
_RULES = {
    "format": 2, "made_with": [{"weights": "w", "overlap": 0.5}],
    "classes": {"a": {"rule": {"min_share": 0.1, "largest": True, "fill": False}, "before": 0.5}},
}  # fmt: skip
_PLAN = {
    "format": 1, "command": "train", "over": "seed", "values": [0, 1], "settings": [], "place": ["--data", "d"],
    "origin": None,
}  # fmt: skip
_REPORT = {
    "schema": 1, "headline": "a", "policy": {"name": "x"}, "settings": {"tolerance": 2.0},
    "summary": [{"target": "a", "metric": "dice", "mean": 0.5}], "cases": [{"case": "c0"}],
}  # fmt: skip
_RESULT = {"val_dice": 0.5, "epoch": 1, "epochs": 2, "seconds": 3.5, "val_empty": 0}
_RECORD = {"name": "x", "source": "y", "source_sha256": "0", "weights_sha256": "1", "licence": "MIT", "features": [0.5]}
_PROVENANCE = [{"weights": "w", "overlap": 0.5}]


@pytest.mark.parametrize(
    ("name", "content", "read", "error"),
    [
        ("cases.json", _MANIFEST, load_manifest, DataError),
        ("run.json", _FACTS, lambda path: read_run_facts(path.parent), DataError),
        ("post.json", _RULES,
         lambda path: load_rules(path.parent, ["background", "a"], provenance=_PROVENANCE, command="c"),
         (ConfigError, DataError)),
        ("runs.json", _PLAN, lambda path: load_plan(path.parent), DataError),
        ("report.json", _REPORT, lambda path: load_baseline(path, ["dice"]), (ConfigError, DataError)),
        ("result.json", _RESULT, lambda path: read_result(path.parent), DataError),
        ("guidino.json", _RECORD, lambda path: read_import_record(path.parent), WeightsError),
        ("config.json", {"model_type": "dinov2", "hidden_size": 64}, read_json_object, WeightsError),
        ("history.jsonl", {"epoch": 1, "loss": 0.5}, lambda path: read_history(path, counter="epoch"), DataError),
    ],
)  # fmt: skip
def test_a_damaged_json_file_is_read_or_refused_by_name(
    name: str, content: Any, read: Callable[[Path], Any], error: Any, tmp_path: Path
) -> None:
    whole = json.dumps(content).encode()
    (tmp_path / name).write_bytes(whole)
    read(tmp_path / name)
    expected = error if isinstance(error, tuple) else (error,)

    @_cases(150)
    @given(_SEEDS)
    def check(seed: int) -> None:
        _check(read, tmp_path / name, whole, mutators.JSON, seed, *expected)

    check()


@pytest.mark.parametrize("kind", ["training", "pretraining"])
def test_a_damaged_preset_is_read_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    if kind == "training":
        whole, read = (presets_folder() / "kvasir-nnwnet.yaml").read_bytes(), lambda path: load_preset(str(path))
    else:
        whole, read = sorted(pretrain_presets_folder().glob("*.yaml"))[0].read_bytes(), read_pretrain_config

    @_cases(150)
    @given(_SEEDS)
    def check(seed: int) -> None:
        _check(read, tmp_path / "p.yaml", whole, mutators.YAML, seed, ConfigError)

    check()


@pytest.mark.parametrize("read", [read_csv, read_pairs, detect_csv, read_group_table])
def test_a_damaged_table_is_read_or_refused_by_name(read: Callable[[Path], Any], tmp_path: Path) -> None:
    whole = b'image,mask,prediction,truth,case,split,"a, b"\r\n' + b"".join(
        f'i{n}.png,m{n}.png,p{n}.png,m{n}.png,c{n},{["train", "val"][n % 2]},"x ""y"""\r\n'.encode() for n in range(6)
    )
    (tmp_path / "t.csv").write_bytes(whole)
    read(tmp_path / "t.csv")

    @_cases(150)
    @given(_SEEDS)
    def check(seed: int) -> None:
        _check(read, tmp_path / "t.csv", whole, mutators.TEXT, seed, DataError)

    check()


def _read_in_every_way(path: Path) -> None:
    """All that commands read of an image, mask or volume; the first failure is that of the others."""
    readers.read_labels(path)
    readers.read_palette(path)
    readers.read(path)
    readers.open_regions(path).read_all()
    if path.suffix not in {".npy", ".npz", ".nii", ".gz"}:
        images.read_orientation(path)
        read_size(path)


@pytest.mark.parametrize("make", [image_specimens, mask_specimens])
def test_a_damaged_image_array_or_volume_is_read_or_refused_by_name(
    make: Callable[[], list[Specimen]], tmp_path: Path
) -> None:
    specimens = make()

    @_cases(600)
    @given(_SEEDS)
    def check(seed: int) -> None:
        chosen = specimens[seed % len(specimens)]
        _check(_read_in_every_way, tmp_path / chosen.name, chosen.content, chosen.mutators, seed, DataError)

    check()


def test_a_damaged_scan_is_sliced_or_refused_by_name(tmp_path: Path) -> None:
    specimens = scan_specimens()

    @_cases(200)
    @given(_SEEDS)
    def check(seed: int) -> None:
        chosen = specimens[seed % len(specimens)]
        read = lambda path: list(cut_slices(open_grey_volume(path), SliceSettings(size=32)))  # noqa: E731
        _check(read, tmp_path / chosen.name, chosen.content, chosen.mutators, seed, DataError)

    check()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
def test_damaged_weights_are_read_or_refused_by_name(name: str, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    tensors = {"a.weight": torch.ones(4, 8), "a.bias": torch.zeros(4)}
    save = save_file if name.endswith(".safetensors") else torch.save
    save(tensors, tmp_path / name)
    whole = (tmp_path / name).read_bytes()

    @_cases(200)
    @given(_SEEDS)
    def check(seed: int) -> None:
        kinds = mutators.SAFETENSORS if name.endswith(".safetensors") else mutators.ZIP
        _check(read_tensors, tmp_path / name, whole, kinds, seed, WeightsError)

    check()


def test_a_damaged_state_is_refused_by_name(tmp_path: Path) -> None:
    import torch

    folder = StateFolder(tmp_path)
    folder.save_state({"format": 1, "sums": {"loss": torch.ones(3)}, "epoch": 2})
    whole = folder.state.read_bytes()

    @_cases(200)
    @given(_SEEDS)
    def check(seed: int) -> None:
        _check(lambda _: folder.load_state(), folder.state, whole, mutators.ZIP, seed, DataError)

    check()


_HUGE = """
import resource, sys
from pathlib import Path
from guidino_cli.data import readers
from guidino_cli.errors import DataError

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    for read in (readers.read, readers.read_labels, lambda path: readers.open_regions(path).read_all()):
        try:
            read(path)
        except DataError as error:
            assert path.name in str(error), error
        else:
            raise AssertionError(f"{path.name} was read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures the memory as POSIX systems do")
def test_a_header_that_claims_more_than_any_memory_is_refused_without_taking_it(tmp_path: Path) -> None:
    specimens = {specimen.name: specimen.content for specimen in [*image_specimens(), *mask_specimens()]}
    for name, content in _claims(specimens):
        (tmp_path / name).write_bytes(content)
    command = [sys.executable, "-c", _HUGE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 200


def _claims(specimens: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Small files whose headers claim 10^9 pixels and more."""
    png, bmp, gif, tif, nii = (
        specimens[name] for name in ("rgb.png", "rgb.bmp", "palette.gif", "deflate.tif", "mask.nii")
    )
    side = struct.pack(">I", 60_000)
    header = b"IHDR" + side + side + png[24:29]
    npy = specimens["mask.npy"]
    claim = npy.replace(b"(40, 48), }    ", b"(99999, 99999)}")
    nifti = nii[:42] + struct.pack("<hhh", 32_767, 32_767, 2_000) + nii[48:]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("arr_0.npy", claim)
    return [
        ("claim.png", png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]),
        ("claim.bmp", bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:]),
        ("claim.gif", gif[:6] + struct.pack("<HH", 60_000, 60_000) + gif[10:]),
        # Width (256) and height (257) of a TIFF stand in entries of 12 bytes: tag, type, count, value.
        ("claim.tif", _set_tiff_value(_set_tiff_value(tif, 256, 60_000), 257, 60_000)),
        ("claim.npy", claim),
        ("claim.npz", archive.getvalue()),
        ("claim.nii", nifti),
        ("claim.nii.gz", gzip.compress(nifti)),
    ]


def _set_tiff_value(content: bytes, tag: int, value: int) -> bytes:
    (start,) = struct.unpack("<I", content[4:8])
    (count,) = struct.unpack("<H", content[start : start + 2])
    entries = [start + 2 + 12 * number for number in range(count)]
    at = next(entry for entry in entries if struct.unpack("<H", content[entry : entry + 2]) == (tag,))
    return content[: at + 2] + struct.pack("<HII", 4, 1, value) + content[at + 12 :]
