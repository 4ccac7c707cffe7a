"""Build hook that compiles the C kernel into the wheel; without a compiler the wheel has none.

hatchling runs this file by its path while it builds (see `[tool.hatch.build.targets.wheel.hooks.custom]`); the
installed program never imports it. The library is plain C without any Python, so one wheel serves every version of
Python on its platform.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = "guidino_cli/metrics/bitwalk.c"
COMPILED = "guidino_cli/metrics/bitwalk.so"
# No -march=native: the wheel must run elsewhere. No contraction: results equal numpy's bit for bit.
FLAGS = ("-O3", "-std=c99", "-fPIC", "-shared", "-ffp-contract=off")


class KernelBuildHook(BuildHookInterface):
    """Compile the kernel into the wheel, or beside its source for an editable install."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called before the wheel is packed; never fails a build."""
        root = Path(self.root)
        if version == "editable":
            compile_kernel(root / SOURCE, root / COMPILED)
            return
        self._folder = tempfile.TemporaryDirectory()
        library = Path(self._folder.name) / Path(COMPILED).name
        if compile_kernel(root / SOURCE, library):
            build_data["force_include"][str(library)] = COMPILED
            build_data["pure_python"] = False
            platform = self.build_config.builder.get_best_matching_tag().rsplit("-", 1)[1]
            build_data["tag"] = f"py3-none-{platform}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Called after the wheel is packed."""
        if version != "editable":
            self._folder.cleanup()


def compile_kernel(source: Path, library: Path) -> bool:
    """Compile with $CC, cc, gcc or clang; an older library at this path is removed in any case.

    Returns:
        Whether a library was built: False on Windows, without a compiler, or if the compiler fails.
    """
    library.unlink(missing_ok=True)
    compiler = _compiler()
    if os.name != "posix" or not compiler:
        return False
    built = library.with_suffix(f".{os.getpid()}.tmp")
    try:
        command = [*compiler, *FLAGS, "-o", str(built), str(source), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        os.replace(built, library)
    except (OSError, subprocess.SubprocessError):
        built.unlink(missing_ok=True)
        return False
    return True


def _compiler() -> list[str]:
    for command in (shlex.split(os.environ.get("CC", "")), ["cc"], ["gcc"], ["clang"]):
        if command and shutil.which(command[0]):
            return command
    return []
