"""Run the checks of a module on the pretended device: `python worker.py LIBRARY MODULE OUT.json SCRATCH`.

A process of its own, since the device must exist before torch is imported; one for many checks, since that takes
seconds. `OUT.json` has {"value": ..., "error": ..., "seconds": ...} for each check.
"""

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pretended_device import install, load_library


def main() -> None:
    """Import the module, which finds torch with the device, and run what its `CHECKS` lists."""
    library, module, out, scratch = sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4])
    load_library(Path(library))
    watch = install()
    warnings.simplefilter("ignore")
    results: dict[str, Any] = {}
    with watch:
        checks = importlib.import_module(module)
        for name, check in checks.CHECKS.items():
            began, value, error = time.process_time(), None, None
            folder = scratch / name.replace(" ", "_")
            folder.mkdir()
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    value = check(watch, folder)
            except BaseException:
                error = traceback.format_exc()
            results[name] = {"value": value, "error": error, "seconds": round(time.process_time() - began, 2)}
            out.write_text(json.dumps(results))
    sys.stdout.flush()
    # Not through the interpreter's end, at which libraries would ask CUDA to close.
    os._exit(0)


if __name__ == "__main__":
    main()
