"""Importing OpenVINO and NNCF: on request, and without their telemetry."""

import importlib
import sys
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from guidino_cli.errors import DependencyError


def require_packages(*names: str) -> None:
    """`DependencyError` if one of "openvino" and "nncf" is missing."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        raise DependencyError(f"OpenVINO models need {' and '.join(missing)}; pip install 'guidino[openvino]'")


def import_package(name: str) -> Any:
    """The package "openvino" or "nncf".

    Raises:
        DependencyError: It is missing, or its installation is damaged.
    """
    require_packages(name)
    # Both report each import and call to Google Analytics unless this package is missing; then both do without it.
    if "openvino_telemetry" not in sys.modules:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[-160:]
        raise DependencyError(
            f"OpenVINO models need {name}, which is installed but cannot be imported ({reason}); "
            f"pip install --force-reinstall --no-deps {name}"
        ) from error


def package_versions(*names: str) -> dict[str, str]:
    """Installed version of each package."""
    return {name: version(name) for name in names}
