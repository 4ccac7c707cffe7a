"""`guidino example`: the example data and scripts, which are part of the package."""

import shutil
from pathlib import Path

from guidino_cli.errors import ConfigError
from guidino_cli.files import atomic_folder
from guidino_cli.outputs import require_writable
from guidino_cli.progress import log_info


def examples_folder() -> Path:
    """Folder of the examples: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "examples"
    return inside if inside.is_dir() else package.parent / "examples"


def run(out: Path, *, overwrite: bool) -> None:
    """Write the examples to `out`/examples; the scripts write their results to `out`/out.

    Raises:
        ConfigError: That folder exists, or cannot be written to.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"-o {out}: is a file, expected a folder")
    source, target = examples_folder(), out / "examples"
    if source.resolve() == target.resolve():
        raise ConfigError(f"-o {out}: these are the examples of this checkout; run {target / 'quickstart.sh'} as it is")
    if target.exists() and not (target / "quickstart.sh").is_file():
        raise ConfigError(f"-o {out}: {target} holds files that guidino did not write; choose another folder")
    if target.exists() and not overwrite:
        raise ConfigError(f"-o {out}: {target} exists; add --overwrite, or choose another folder")
    require_writable(out)
    with atomic_folder(target) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    print(f"wrote {target}: 66 tiles with masks ({target / 'data' / 'README.md'}) and scripts")
    log_info(f"the whole job, a few minutes on two cores: {target / 'quickstart.sh'}")
