"""What this machine's processor has units for."""

from pathlib import Path

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


def instruction_sets() -> set[str]:
    """Instruction sets as Linux names them on x86; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def bf16_instruction_sets() -> list[str]:
    """Those that compute in bf16."""
    return sorted(instruction_sets() & _BF16)


def emulates_bf16() -> bool:
    """Whether bf16 is known to be imitated, slowly, for want of units."""
    known = instruction_sets()
    return bool(known) and not known & _BF16
