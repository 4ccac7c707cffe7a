"""Two processes shard backbones that they load from files, for `test_sharded_loading.py`: `python FILE OUT`.

A file of its own, since processes should be forked where torch was imported and nothing was computed yet.
"""

import ctypes
import gc
import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed.fsdp  # Imported before memory is measured.
from accelerate import PartialState, debug_launcher

from guidino_cli.distributed import rank
from guidino_cli.engine.training.sharded_backbone import ShardedBackbone
from guidino_cli.models import build_backbone
from guidino_cli.models.base import Backbone

# Precision of the file, and of the backbone.
KINDS = [("bfloat16", "float32"), ("float32", "bfloat16")]


def load(folder: Path, dtype: str, *, keep_mapped: bool) -> Backbone:
    options = {"weights": str(folder), "dtype": dtype}
    backbone: Backbone = build_backbone("dinov3", options, offline=True, frozen=True, keep_mapped=keep_mapped)
    return backbone


def bytes_of_its_own() -> int:
    """Memory that this process shares with no other and with no file."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


@contextmanager
def peak(seen: dict[str, Any]) -> Iterator[None]:
    """Note under "grown" by how much this process grew at most."""
    gc.collect()
    # Otherwise what is free already would hide how much is taken.
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before, is_over, most = bytes_of_its_own(), threading.Event(), [0]

    def watch() -> None:
        while not is_over.wait(0.002):
            most[0] = max(most[0], bytes_of_its_own())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
    seen["grown"] = most[0] - before


def is_mapped(tensor: torch.Tensor, file: Path) -> bool:
    """Whether its bytes are those of the file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(number, 16) for number in line.split()[0].split("-"))
        if first <= tensor.data_ptr() < last:
            return line.endswith(str(file))
    return False


def shard(folder: Path, dtype: str) -> dict[str, Any]:
    """What a process has and holds, from the file to the features."""
    seen, device, file = dict[str, Any](), torch.device("cpu"), (folder / "model.safetensors").resolve()
    with peak(seen):
        backbone = load(folder, dtype, keep_mapped=True)
        seen["mapped"] = all(is_mapped(parameter, file) for parameter in backbone.parameters())
        sharded = ShardedBackbone(backbone, device)
    seen["whole"] = sum(parameter.nbytes for parameter in sharded.parameters())
    seen["dtypes"] = sorted({str(parameter.dtype) for parameter in sharded.parameters()})
    seen["still mapped"] = file.as_posix() in Path("/proc/self/maps").read_text()
    usual = load(folder, dtype, keep_mapped=False)
    image = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(rank()))
    with torch.no_grad():
        seen["same features"] = torch.equal(sharded(image)[0], usual(image)[0])
    sharded.wait()
    seen["same identity"] = sharded.identity == usual.identity
    return seen


def work(out: str) -> None:
    torch.set_num_threads(1)
    PartialState(cpu=True)
    ShardedBackbone(load(Path(out) / "tiny", "float32", keep_mapped=True), torch.device("cpu"))
    seen = {f"{stored} {used}": shard(Path(out) / stored, used) for stored, used in KINDS}
    (Path(out) / f"seen{rank()}.json").write_text(json.dumps(seen))


if __name__ == "__main__":
    debug_launcher(work, args=(sys.argv[1],), num_processes=2)
