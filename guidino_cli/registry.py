"""Create a part from a registry of "module:Name" entries; the constructor's signature is the schema of its options."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from guidino_cli.errors import ConfigError, UserError, is_out_of_memory, unknown_name

# Commands that list the parts of a kind.
_LISTERS = {"segmenter": "guidino models"}


# Not the fault of options, whoever raises them.
_OTHER_CAUSES = (OSError, ImportError)


def find(kind: str, name: str, registry: Mapping[str, str]) -> Any:
    """The registered class or function itself, for what is known of it before it is called.

    A name may be followed by a colon and a variant, `smp:Unet:resnet34`, if the part has a parameter `variant`.

    Raises:
        ConfigError: Unknown name.
    """
    key, _, variant = name.partition(":")
    if key not in registry:
        raise ConfigError(unknown_name(kind, name, registry, lister=_LISTERS.get(kind, "")))
    module, attribute = registry[key].split(":")
    factory = getattr(importlib.import_module(module), attribute)
    if variant and "variant" not in inspect.signature(factory).parameters:
        raise ConfigError(f"{kind} {key} has no variants: write {key}, not {name}")
    return factory


def create(kind: str, name: str, registry: Mapping[str, str], options: Mapping[str, Any], **given: Any) -> Any:
    """Call the registered class or function with the user's options and the values the program supplies.

    Args:
        kind: What the part is, for messages ("segmenter").
        name: Key in the registry, and after a colon a variant.
        registry: Name -> "module:Name".
        options: The user's keyword arguments; every one must exist in the signature.
        **given: Keyword arguments that the program sets and the user may not.

    Raises:
        ConfigError: Unknown name, unknown or missing option, or a value the part refuses.
    """
    factory = find(kind, name, registry)
    if ":" in name:
        given["variant"] = name.partition(":")[2]
    allowed = set(inspect.signature(factory).parameters) - set(given)
    for option in options:
        if option not in allowed:
            raise ConfigError(f"{kind} {name}: " + unknown_name("option", option, allowed))
    try:
        inspect.signature(factory).bind(**options, **given)
    except TypeError as error:
        raise ConfigError(f"{kind} {name}: {error}") from error
    try:
        return factory(**options, **given)
    except Exception as error:
        # Libraries answer a width of -4 or "wide" with many kinds of errors; without options they are our own fault.
        is_of_options = bool(options) and not isinstance(error, (*_OTHER_CAUSES, UserError))
        if is_out_of_memory(error) or not (is_of_options or isinstance(error, ValueError)):
            raise
        reason = " ".join(str(error).split())
        chosen = f" with options {dict(options)}" if options else ""
        raise ConfigError(f"{kind} {name}{chosen}: {reason}") from error
