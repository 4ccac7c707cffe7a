"""`guidino report`: one page about runs, from the folders that other commands wrote; nothing is predicted or scored."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.commands.report_inputs import read_inputs
from guidino_cli.commands.report_page import make_page
from guidino_cli.errors import ConfigError
from guidino_cli.evaluation.stored import REPORT_FILE
from guidino_cli.files import write_text
from guidino_cli.outputs import require_output_file, require_writable
from guidino_cli.progress import log_warning, pluralize

# What `evaluate` writes beside its report; the pictures of the worst cases are taken from it.
_EVALUATION_PAGE = "report.html"
_SUFFIXES = (".html", ".htm")


def run(folders: Sequence[Path], out: Path, *, overwrite: bool) -> None:
    """Write a self-contained page about runs, their evaluations and their guides.

    Args:
        folders: Run folders, folders of `evaluate -o` and folders of `visualize-guide -o`, in any order.
        out: The page.
        overwrite: Replace it.

    Raises:
        ConfigError: No run is named, or the page cannot be written there.
        DataError: A folder is none of these, or is damaged.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"-o {out}: expected the name of an HTML page, such as report.html")
    require_output_file(out, overwrite=overwrite)
    if out.name == _EVALUATION_PAGE and (out.parent / REPORT_FILE).is_file():
        raise ConfigError(f"-o {out}: is the page of an evaluation; choose another name")
    require_writable(out.parent)
    inputs = read_inputs(folders)
    page, missing = make_page(inputs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    for line in missing:
        log_warning(line)
    parts = [pluralize(len(inputs.runs), "run"), pluralize(len(inputs.evaluations), "evaluation")]
    print(f"wrote {out}: {', '.join(parts)} ({out.stat().st_size / 1e6:.1f} MB, loads nothing from elsewhere)")
