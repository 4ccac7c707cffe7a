"""Two processes that train with a sharded backbone, for `test_sharded_backbone.py`: `python two_processes.py DATA OUT`.

A file of its own, since processes should be forked where torch was imported and nothing was computed yet.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState, debug_launcher
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import set_seed
from accelerate.utils.other import model_has_dtensor

from guidino_cli.config import RunConfig, override
from guidino_cli.data.manifest import load_manifest
from guidino_cli.engine.runs.best import trained_state_dict
from guidino_cli.engine.runs.folder import RunFolder
from guidino_cli.engine.training.sharded_backbone import ShardedBackbone, hidden_from_accelerate
from guidino_cli.engine.training.trainer import Trainer
from guidino_cli.errors import UserError
from guidino_cli.models import build_backbone, build_model
from guidino_cli.types import Case

# Normalised image by image, so that there are no statistics of batches in the way.
BASE = (
    "model.segmenter={name: nnunet, options: {widths: [4, 8, 8], blocks: [1, 1, 1]}}",
    "model.backbone={name: random, options: {hidden_size: 32, depth: 3, heads: 2}}",
    "model.guide={at: bottleneck, options: {prototypes: 4, aggregate: softmax}}",
    "data.image_size=32",
    "data.augment=light",
    "train.epochs=2",
    "train.batch_size=2",
    "train.lr=1e-2",
    "train.loss.guide=0.1",
    "train.dense_cache_gb=0",
)
SHARDED = "train.shard_backbone=true"
# Room for the 4 x 32 numbers of four training cases in a process, so that later some batches are known and some not.
KEPT = ("data.augment=none", "train.epochs=4", f"train.dense_cache_gb={4 * 4 * 32 * 4 / 1e9}")


class Bench:
    """Trains in this process and notes what it sees there."""

    def __init__(self, data: Path, out: Path) -> None:
        self.manifest, self.out, self.seen = load_manifest(data), out, dict[str, Any]()

    def trainer(self, name: str, *settings: str, validation: Sequence[Case] | None = None) -> Trainer:
        # A user's process has one run.
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        config = override(RunConfig(), [*BASE, *settings])
        set_seed(config.seed)
        return Trainer(
            build_model(config.model, num_classes=len(self.manifest.classes)),
            config,
            RunFolder(self.out / name),
            num_classes=len(self.manifest.classes),
            training=self.manifest.select("train"),
            validation=self.manifest.select("val") if validation is None else validation,
            device="cpu",
        )

    def train(self, name: str, *settings: str) -> Trainer:
        trainer = self.trainer(name, *settings)
        backbone = trainer.bare_model.backbone
        calls: list[int] = []
        watched = backbone.sharded if isinstance(backbone, ShardedBackbone) else backbone
        watched.register_forward_hook(lambda *_: calls.append(1))
        trainer.fit()
        self.seen[f"{name} calls"] = len(calls)
        return trainer

    def what_is_held(self, trainer: Trainer) -> None:
        """Bytes of the backbone that this process has, and of all of it."""
        backbone = trainer.bare_model.backbone
        self.seen["held"] = sum(piece.to_local().untyped_storage().nbytes() for piece in backbone.parameters())
        self.seen["whole"] = sum(piece.nbytes for piece in backbone.parameters())
        with hidden_from_accelerate(trainer.bare_model):
            self.seen["accelerate is shown pieces"] = model_has_dtensor(trainer.bare_model)
        self.seen["in pieces"] = model_has_dtensor(trainer.bare_model)

    def going_on(self, before: Trainer) -> None:
        """Another trainer reads the state of one that has finished."""
        trainer = self.trainer("sharded", SHARDED)
        trainer.resume()
        old, new = trained_state_dict(before.bare_model), trained_state_dict(trainer.bare_model)
        self.seen["saved"] = list(trainer.folder.load_state()["model"])
        self.seen["went on with the same"] = all(torch.equal(old[name], new[name]) for name in old)
        self.seen["went on at"] = trainer.state.epoch

    def a_broken_case(self) -> None:
        """The last of three validation cases, which the second process is given."""
        first, second, last = self.manifest.select("val")
        cases = [first, second, replace(last, image=Path("gone.png"))]
        try:
            self.trainer("broken", SHARDED, validation=cases).fit()
        except UserError as error:
            self.seen["broken"] = str(error)
        except SystemExit as end:
            self.seen["broken"] = end.code

    def maps(self, name: str, options: dict[str, Any], dtype: torch.dtype) -> None:
        """Of images that differ from process to process, first as prediction asks for them; the other one rests."""
        backbone = build_backbone(name, options).to(dtype)
        image = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(PartialState().process_index))
        with torch.inference_mode():
            wanted = backbone(image)
            sharded = ShardedBackbone(backbone, torch.device("cpu"))
            found = [sharded(image), *([sharded(image)] if PartialState().is_main_process else [])]
        sharded.wait()
        found.append(sharded(image))
        same = [torch.equal(one, other) for maps in found for one, other in zip(maps, wanted, strict=True)]
        self.seen[f"{name} {dtype}"] = all(same)

    def half_precision(self, name: str, options: dict[str, Any]) -> None:
        """Maps of a backbone of float32 under autocast, and what arrives for it to compute with."""
        backbone = build_backbone(name, options)
        image = torch.rand(2, 3, 64, 80, generator=torch.Generator().manual_seed(PartialState().process_index))
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            wanted = backbone(image)
        sharded, dtypes = ShardedBackbone(backbone, torch.device("cpu"), "bf16"), set[str]()

        def note(module: torch.nn.Module, _: Any) -> None:
            dtypes.update(f"{type(module).__name__} {item.dtype}" for item in module.parameters(recurse=False))

        for block in (item for item in sharded.modules() if isinstance(item, torch.nn.ModuleList)):
            for module in block.modules():
                if isinstance(module, torch.nn.LayerNorm):
                    module.register_forward_pre_hook(note)
                if isinstance(module, torch.nn.Linear):
                    module.register_forward_pre_hook(lambda module, _: dtypes.add(f"Linear {module.weight.dtype}"))
        with torch.inference_mode():
            found = sharded(image)
        sharded.wait()
        same = [torch.equal(one, other) for one, other in zip(found, wanted, strict=True)]
        self.seen[f"{name} in bf16"] = {"same": all(same), "dtypes": sorted(dtypes)}


def work(data: str, out: str) -> None:
    torch.set_num_threads(1)
    bench = Bench(Path(data), Path(out))
    bench.train("plain")
    sharded = bench.train("sharded", SHARDED)
    bench.what_is_held(sharded)
    bench.going_on(sharded)
    bench.train("plain kept", *KEPT)
    bench.train("sharded kept", *KEPT, SHARDED)
    bench.a_broken_case()
    tiny = {"hidden_size": 44, "depth": 2, "heads": 1, "layers": [1, 2]}
    bench.maps("random", tiny, torch.float32)
    bench.maps("random", tiny, torch.bfloat16)
    bench.maps("sam2", {"random": True, "size": "tiny", "widths": [8, 16, 32, 64], "adapters": 0}, torch.float32)
    bench.half_precision("random", tiny)
    bench.half_precision("sam2", {"random": True, "size": "tiny", "widths": [8, 16, 32, 64], "adapters": 0})
    rank = PartialState().process_index
    (Path(out) / f"seen{rank}.json").write_text(json.dumps(bench.seen))


if __name__ == "__main__":
    debug_launcher(work, args=tuple(sys.argv[1:]), num_processes=2)
