"""Output of `--json`: one JSON object on stdout, the version of its schema first; see docs/json.md."""

import json
from collections.abc import Mapping
from typing import Any

from guidino_cli import __version__


def print_json(content: Mapping[str, Any], *, schema: int) -> None:
    """Print an object for programs.

    Args:
        content: Values that JSON has; NaN and infinity are refused. Characters beyond ASCII are escaped, so that no
            locale and no file name can spoil them.
        schema: Version of the object: 1 more where a key is renamed or removed, or gets another meaning. New keys do
            not change it.
    """
    print(json.dumps({"schema": schema, "guidino": __version__, **content}, indent=2, allow_nan=False))
