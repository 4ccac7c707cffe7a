"""Instruction sets of this machine's CPU, in particular for bf16 and int8."""

import platform
from pathlib import Path

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})
_VNNI = frozenset({"avx512_vnni", "avx_vnni"})
_AMX = "amx_int8"
_X86 = frozenset({"x86_64", "amd64", "i386", "i686"})


def instruction_sets() -> set[str]:
    """Instruction sets as Linux names them on x86; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def bf16_instruction_sets() -> list[str]:
    """Instruction sets for bf16, sorted."""
    return sorted(instruction_sets() & _BF16)


def emulates_bf16() -> bool:
    """Whether bf16 is known to be emulated, slowly, without instructions for it."""
    known = instruction_sets()
    return bool(known) and not known & _BF16


def has_vnni() -> bool | None:
    """Whether the CPU multiplies int8 numbers fast (VNNI); None if its instruction sets are not known."""
    known = instruction_sets()
    return bool(known & _VNNI) if known else None


def may_overflow_int8() -> bool:
    """Whether sums of 8-bit products may overflow: on x86 without VNNI, and on x86 where VNNI is not known."""
    return platform.machine().lower() in _X86 and has_vnni() is not True


def has_amx() -> bool | None:
    """Whether the CPU multiplies tiles of int8 numbers (AMX); None if its instruction sets are not known."""
    known = instruction_sets()
    return _AMX in known if known else None
