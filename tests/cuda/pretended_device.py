"""A pretended CUDA device: tensors that say cuda:0 and compute on the CPU; mixed devices raise, waits are noted.

For a process of its own, see `worker.py`: `load_library` must come before `import torch`, and `install` before
`import guidino_cli`.
"""

import ctypes
import importlib.util
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("guard.cpp")


def _torch_folder() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def build_library(compiler: str, library: Path) -> None:
    """Compile the guard against the torch that is installed; about four seconds."""
    torch = _torch_folder()
    options = ["-shared", "-fPIC", "-std=c++20", f"-I{torch / 'include'}"]
    command = [compiler, *options, str(SOURCE), f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True)


def load_library(library: Path) -> None:
    """Load the guard; torch, imported afterwards, finds a CUDA device without kernels."""
    assert "torch" not in sys.modules
    for path in (_torch_folder() / "lib" / "libc10.so", _torch_folder() / "lib" / "libtorch_cpu.so", library):
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def install(*, has_bf16: bool = True) -> Any:
    """Import torch and make its CUDA interface answer as a machine with one card would.

    Args:
        has_bf16: Whether the card computes in bfloat16; without, guidino chooses float16.

    Returns:
        A `Watch`, within which tensors can be on "cuda".
    """
    import torch

    cuda: Any = torch.cuda
    answers: dict[str, Any] = {
        "is_available": True,
        "device_count": 1,
        "current_device": 0,
        "set_device": None,
        "is_bf16_supported": has_bf16,
        "is_initialized": False,
        "_lazy_init": None,
        "synchronize": None,
        "empty_cache": None,
        "set_rng_state": None,
        "get_rng_state": torch.zeros(16, dtype=torch.uint8),
        "get_device_name": "pretended",
        "get_device_capability": (9, 0),
    }
    for name, answer in answers.items():
        setattr(cuda, name, lambda *_, _answer=answer, **__: _answer)
    # A wrapper cannot take another tensor's data, as `Module.to` would have it.
    torch.__future__.set_swap_module_params_on_conversion(True)
    # Otherwise `torch.tensor(..., device="cuda")` would be sent to kernels.
    private: Any = torch._C
    private._set_only_lift_cpu_tensors(True)
    # Inference mode skips the dispatcher that the wrapper needs.
    torch.inference_mode = torch.no_grad  # type: ignore[misc, assignment]
    return _make_watch()


READS = {
    "_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount",
    "unique_consecutive", "repeat_interleave",
}  # fmt: skip
"""Operations with a result, or the shape of one, that only the device knows: the host waits for all work before."""
NOT_DETERMINISTIC = {
    "avg_pool3d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "adaptive_max_pool2d_backward", "fractional_max_pool2d_backward", "fractional_max_pool3d_backward",
    "max_pool3d_with_indices_backward", "max_unpool2d", "max_unpool3d", "upsample_linear1d_backward",
    "upsample_bilinear2d_backward", "_upsample_bilinear2d_aa_backward", "upsample_bicubic2d_backward",
    "_upsample_bicubic2d_aa_backward", "upsample_trilinear3d_backward", "reflection_pad1d_backward",
    "reflection_pad2d_backward", "reflection_pad3d_backward", "replication_pad1d_backward",
    "replication_pad2d_backward", "replication_pad3d_backward", "nll_loss2d_forward", "nll_loss2d_backward",
    "_ctc_loss_backward", "put_", "histc", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumsum",
}  # fmt: skip
"""Operations that raise on CUDA under `torch.use_deterministic_algorithms`, by its documentation; cumsum of floats."""
_COPIES = {"_to_copy", "copy_", "_copy_from", "_pin_memory"}
_OWN = "guidino_cli"


def _place() -> str:
    """Where guidino asked for what happens now, as "engine/training/step.py:TrainStep.__call__"."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        _, found, name = frame.f_code.co_filename.rpartition(f"{_OWN}/")
        if found:
            return f"{name}:{frame.f_code.co_qualname}"
        frame = frame.f_back
    return "elsewhere"


class Record:
    """What happened on the device.

    Attributes:
        waits: How often the host waited for the device, by (kind, place).
        kernels: Number of operations that compute something on the device.
        copies: Number of copies between host and device, by direction: "in" or "out".
        bytes: Their bytes.
        dtypes: Number of matrix products and convolutions, by (operation, dtype of the result).
        not_deterministic: Number of operations that raise under `torch.use_deterministic_algorithms`, by name.
        doubles: Number of results in float64, by place: Apple's devices have none, most cards are slow in it.
    """

    def __init__(self) -> None:
        self.waits: Counter[tuple[str, str]] = Counter()
        self.kernels = 0
        self.copies: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()
        self.dtypes: Counter[tuple[str, str]] = Counter()
        self.not_deterministic: Counter[str] = Counter()
        self.doubles: Counter[str] = Counter()

    def as_json(self) -> dict[str, Any]:
        """The same in lists and numbers."""
        return {
            "waits": sorted([kind, place, count] for (kind, place), count in self.waits.items()),
            "kernels": self.kernels,
            "copies": dict(self.copies),
            "bytes": dict(self.bytes),
            "dtypes": sorted([name, dtype, count] for (name, dtype), count in self.dtypes.items()),
            "not_deterministic": dict(self.not_deterministic),
            "doubles": dict(self.doubles),
        }


def _make_watch() -> Any:
    """The classes below need torch, which may be imported only after `load_library`."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

    products = {"mm", "addmm", "bmm", "baddbmm", "convolution", "_scaled_dot_product_flash_attention_for_cpu"}

    class Pretended(torch.Tensor):
        """A CPU tensor behind one that says cuda:0."""

        inner: torch.Tensor
        __torch_function__ = torch._C._disabled_torch_function_impl

        @staticmethod
        def __new__(cls, inner: torch.Tensor) -> "Pretended":
            make: Any = torch.Tensor._make_wrapper_subclass  # type: ignore[attr-defined]
            out = make(
                cls,
                inner.shape,
                strides=inner.stride(),
                storage_offset=inner.storage_offset(),
                dtype=inner.dtype,
                device=torch.device("cuda", 0),
                requires_grad=False,
            )
            out.inner = inner
            return out  # type: ignore[no-any-return]

        def __repr__(self) -> str:  # type: ignore[override]
            return f"Pretended({self.inner})"

        def tolist(self) -> Any:
            watch.record.waits["read: tolist", _place()] += 1
            return self.inner.tolist()

        def __reduce_ex__(self, protocol: Any) -> Any:
            return self.inner.__reduce_ex__(protocol)

        @classmethod
        def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return watch.run(func, args, kwargs or {})

    def _call(func: Any, args: Any, kwargs: Any) -> Any:
        """A few operations exist in half precision on cards only: those are computed in float32 and rounded."""
        try:
            return func(*args, **kwargs)
        except NotImplementedError as error:
            if "not implemented for" not in str(error):
                raise
        halves = {item.dtype for item in tree_flatten((args, kwargs))[0] if isinstance(item, torch.Tensor)}
        (dtype,) = halves & {torch.bfloat16, torch.float16}

        def cast(to: torch.dtype) -> Callable[[Any], Any]:
            return lambda item: item.to(to) if isinstance(item, torch.Tensor) and item.is_floating_point() else item

        args, kwargs = tree_map(cast(torch.float32), (args, kwargs))
        return tree_map(cast(dtype), func(*args, **kwargs))

    def is_cuda(value: object) -> bool:
        return isinstance(value, torch.device) and value.type == "cuda"

    class Watch(TorchDispatchMode):
        """Dispatch mode that runs operations on cuda:0 tensors on the CPU and records kernels, copies and waits."""

        def __init__(self) -> None:
            super().__init__()
            self.record = Record()

        @contextmanager
        def recording(self) -> Iterator[Record]:
            """A new record for the time of this context."""
            before, self.record = self.record, Record()
            try:
                yield self.record
            finally:
                self.record = before

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return self.run(func, args, kwargs or {})

        def run(self, func: Any, args: Any, kwargs: Any) -> Any:
            name = func.overloadpacket.__name__
            flat, spec = tree_flatten((args, kwargs))
            on_device = [item for item in flat if isinstance(item, Pretended)]
            to_device = any(is_cuda(item) for item in flat)
            if not on_device and not to_device:
                return func(*args, **kwargs)
            on_host = [item for item in flat if isinstance(item, torch.Tensor) and not isinstance(item, Pretended)]
            if name in _COPIES:
                stays = self._note_copy(name, args, kwargs, flat)
            else:
                self._require_one_device(func, name, args, on_device, on_host)
                self._note_reads(name, args, on_device)
                stays = name != "_local_scalar_dense"
                self.record.kernels += not func.is_view
            return self._compute(func, name, flat, spec, on_device, on_host, stays=stays)

        def _compute(
            self, func: Any, name: str, flat: Any, spec: Any, on_device: Any, on_host: Any, *, stays: bool
        ) -> Any:
            inner = [
                item.inner if isinstance(item, Pretended) else torch.device("cpu") if is_cuda(item) else item
                for item in flat
            ]
            args, kwargs = tree_unflatten(inner, spec)
            if stays:
                kwargs.pop("pin_memory", None)
            if name == "_to_copy":
                kwargs.pop("non_blocking", None)
            result = _call(func, args, kwargs)
            if name in products and isinstance(result, torch.Tensor):
                self.record.dtypes[name, str(result.dtype).removeprefix("torch.")] += 1
            if name in NOT_DETERMINISTIC and (name != "cumsum" or result.is_floating_point()):
                self.record.not_deterministic[name] += 1
            if stays and any(getattr(item, "dtype", None) is torch.float64 for item in tree_flatten(result)[0]):
                self.record.doubles[_place()] += 1
            known = {id(item.inner): item for item in on_device}

            def wrap(value: Any) -> Any:
                if not isinstance(value, torch.Tensor) or isinstance(value, Pretended):
                    return value
                if id(value) in known:
                    return known[id(value)]
                is_input = any(value is item for item in on_host)
                return Pretended(value) if stays and not is_input else value

            return tree_map(wrap, result)

        def _require_one_device(self, func: Any, name: str, args: Any, on_device: Any, on_host: Any) -> None:
            """Raise as CUDA does; single numbers and, in an index, whole tensors may come from the host."""
            if not on_device:
                return
            wrong = [item for item in on_host if item.dim() > 0 or name in {"cat", "stack", "index_put_"}]
            if name.startswith(("index", "_index_put")):
                indexed = [item for item in args[:1] if isinstance(item, torch.Tensor)]
                moved = wrong and all(isinstance(item, Pretended) for item in indexed)
                if moved:
                    self.record.waits["copy in: index from the host", _place()] += 1
                    wrong = []
            if wrong:
                shapes = [tuple(item.shape) for item in wrong]
                raise RuntimeError(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"({func}, {shapes} on the cpu, {_place()})"
                )
            if "mkldnn" in name:
                raise RuntimeError(f"{name} is for CPUs ({_place()})")

        def _note_reads(self, name: str, args: Any, on_device: Any) -> None:
            if not on_device:
                return
            if name in READS:
                self.record.waits[f"read: {name}", _place()] += 1
            if not name.startswith(("index", "_index_put")) or len(args) < 2 or not isinstance(args[1], list | tuple):
                return
            kinds = {index.dtype for index in args[1] if isinstance(index, torch.Tensor)}
            if kinds & {torch.bool, torch.uint8}:
                self.record.waits["read: boolean index", _place()] += 1

        def _note_copy(self, name: str, args: Any, kwargs: Any, flat: Any) -> bool:
            """Whether the result is on the device."""
            source = args[1] if name == "copy_" else args[0]
            from_device = isinstance(source, Pretended)
            if name == "copy_":
                stays = isinstance(args[0], Pretended)
            else:
                devices = [item for item in flat if isinstance(item, torch.device)]
                stays = any(map(is_cuda, devices)) or (from_device and not devices)
            self.record.kernels += from_device and stays
            if from_device == stays:
                return stays
            way = "in" if stays else "out"
            self.record.copies[way] += 1
            self.record.bytes[way] += source.numel() * source.element_size()
            is_async = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
            if way == "out":
                # Whoever asks for it without waiting must wait later; guidino never does.
                self.record.waits["copy out", _place()] += 1
            elif not source.is_pinned() or not is_async:
                memory = "pinned" if source.is_pinned() else "unpinned"
                self.record.waits[f"copy in: {memory}, {'asynchronous' if is_async else 'blocking'}", _place()] += 1
            return stays

    watch = Watch()
    return watch
