"""`prepare` on label files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from guidino_cli.commands import prepare
from guidino_cli.options.data import PrepareOptions


@pytest.fixture
def prepared(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Prepare a source with options; the masks by case."""

    def call(source: Path, **options: object) -> dict[str, np.ndarray]:
        out = tmp_path / "prepared"
        prepare.run(source, PrepareOptions(out=out, overwrite=True, **options))  # type: ignore[arg-type]
        return {path.stem: np.asarray(Image.open(path)) for path in sorted((out / "masks").iterdir())}

    return call
