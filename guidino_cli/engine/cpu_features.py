"""Instruction sets of this machine's CPU, in particular for bf16."""

from pathlib import Path

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


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
