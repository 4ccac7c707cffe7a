"""What this machine's processor has units for."""

from pathlib import Path

_BF16 = frozenset({"avx512_bf16", "amx_bf16"})


def instruction_sets() -> set[str]:
    """Instruction sets as Linux names them on x86; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())


def bf16_units() -> list[str]:
    """Those that compute in bf16; none of them, and a processor without them imitates it."""
    return sorted(instruction_sets() & _BF16)
