"""Stop on problems of a data set that its options do not allow to skip, and name all of them."""

from collections.abc import Sequence
from pathlib import Path

from guidino_cli.errors import DataError
from guidino_cli.preparation.checks import Finding
from guidino_cli.preparation.options import PreparationConfig
from guidino_cli.progress import log_info


def raise_on_problems(source: Path, findings: Sequence[Finding], config: PreparationConfig) -> None:
    """Log all problems and raise `DataError`, unless there are none or all of them may be skipped."""
    errors = [finding for finding in findings if finding.kind == "error"]
    bad = [finding for finding in findings if finding.kind == "bad"]
    if not errors and (config.options.skip_bad or not bad):
        return
    hint = "; --skip-bad prepares the rest without these cases" if bad and not errors else ""
    problems = [*errors, *bad]
    if len(problems) == 1:
        raise DataError(f"{problems[0].text}{hint}")
    for finding in problems[:50]:
        log_info(f"  {finding.text}")
    if len(problems) > 50:
        log_info(f"  and {len(problems) - 50} more")
    raise DataError(f"{source}: {len(problems)} problems, listed above; nothing was written{hint}")
