"""Usage errors in one line; settings typed as options or arguments are answered with the right form of `--set`."""

import shlex
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from guidino_cli.errors import ConfigError

UsageError: Any = typer.BadParameter.__base__
"""What typer raises for a command line that it cannot parse; it has no public name."""

# The section meant by a name that several sections have, such as batch_size.
_PREFERRED_SECTION = dict.fromkeys(("predict", "tune-post", "tune-risk", "visualize-guide"), "predict.")


def is_help(error: Any) -> bool:
    """Whether a usage error is the help text that a group of commands shows without arguments."""
    return error.ctx is not None and error.format_message() == error.ctx.get_help()


def describe_usage_error(error: Any) -> str:
    """One line: what is missing with its meaning, or what cannot be understood, and where to read more."""
    context, parameter = error.ctx, getattr(error, "param", None)
    command = "guidino" if context is None else context.command_path
    message = " ".join(error.format_message().split()).rstrip(".")
    if message.startswith("Missing ") and parameter is not None:
        name = "/".join(reversed(parameter.opts)) if parameter.param_type_name == "option" else parameter.metavar
        meaning = " ".join((parameter.help or "").split()).rstrip(".")
        message = f"{name} is missing" + (f": {meaning[:1].lower()}{meaning[1:]}" if meaning else "")
    else:
        message = message[:1].lower() + message[1:]
    return f"{message}; see `{command} --help`"


class SettingsCommand(TyperCommand):
    """A command with `--set`, whose usage errors name the setting or the option that was meant."""

    # They are refused below, with a better message.
    allow_extra_args = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments of the command.

        Raises:
            ConfigError: An unknown option that is the name of a setting, a value separated from its `--set KEY`, or an
                extra argument.
        """
        if not ctx.resilient_parsing:
            options = {name for parameter in self.get_params(ctx) for name in parameter.opts}
            command = str(ctx.info_name)
            for index, word in enumerate(args):
                if word == "--":
                    break
                _check_word(word, args[index + 1 :], options=options, command=command)
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            raise ConfigError(_explain_extra(extra, ctx))
        return extra


def _check_word(word: str, following: Sequence[str], *, options: Collection[str], command: str) -> None:
    if word in {"--set", "-s"}:
        if following and "=" not in following[0] and (value := _value(following[1:])) is not None:
            key = (_find_setting(following[0], command) if "." not in following[0] else None) or following[0]
            raise ConfigError(f"{word} {following[0]} {value}: key and value are one word: {_form(key, value)}")
        return
    name, separator, value = word.partition("=")
    if not name.startswith("--") or name in options:
        return
    # A misspelt option is left to the parser, which suggests the right one.
    is_misspelt = bool(get_close_matches(name, options, n=1, cutoff=0.75))
    setting = _find_setting(name.removeprefix("--"), command, exact=is_misspelt)
    if setting is not None:
        form = _form(setting, value if separator else _value(following))
        raise ConfigError(f"{name}: there is no such option; settings are given as {form}")


def _value(following: Sequence[str]) -> str | None:
    return following[0] if following and not following[0].startswith("-") else None


def _form(setting: str, value: str | None) -> str:
    return f"--set {setting}=VALUE" if value is None else f"--set {shlex.quote(f'{setting}={value}')}"


def _find_setting(name: str, command: str, *, exact: bool = False) -> str | None:
    """Dotted path of the setting of this name or, unless `exact`, of the most similar name."""
    paths = _settings(command)
    wanted = name.replace("-", "_").lower()
    by_name: dict[str, str] = {}
    for path in paths:
        # A section is given by the name of its part, as in model.segmenter.name=unet.
        setting = f"{path}.name" if f"{path}.name" in paths else path
        if not any(other.startswith(f"{setting}.") for other in paths):
            for key in (path, path.replace(".", "_"), path.rpartition(".")[2]):
                by_name.setdefault(key, setting)
    if wanted in by_name:
        return by_name[wanted]
    near = [] if exact else get_close_matches(wanted, by_name, n=1, cutoff=0.6)
    return by_name[near[0]] if near else None


def _settings(command: str) -> list[str]:
    """Dotted paths of the command's settings, those of its preferred section first."""
    from guidino_cli.config import RunConfig
    from guidino_cli.pretrain_config import PretrainConfig
    from guidino_cli.settings import list_settings

    section = _PREFERRED_SECTION.get(command, "train.")
    paths = list_settings(PretrainConfig if command == "pretrain" else RunConfig)
    return sorted(paths, key=lambda path: not path.startswith(section))


def _explain_extra(extra: Sequence[str], ctx: Any) -> str:
    """Say by which options extra arguments can be given."""
    words = " ".join(extra)
    free = [name for name in ("preset", "data") if name in ctx.params and not _is_given(name, ctx)]
    forms = []
    for word in extra:
        option = "preset" if _is_preset(word) else "data"
        if option not in free:
            return f"{words}: unexpected; see `{ctx.command_path} --help`"
        free.remove(option)
        forms.append(f"--{option} {shlex.quote(word)}")
    return f"{words}: unexpected; did you mean {' '.join(forms)}?"


def _is_given(name: str, ctx: Any) -> bool:
    return ctx.get_parameter_source(name).name == "COMMANDLINE"


def _is_preset(word: str) -> bool:
    from guidino_cli.config import preset_names
    from guidino_cli.pretrain_config import pretrain_preset_names

    if word.endswith((".yaml", ".yml")):
        return True
    return not Path(word).exists() and bool(get_close_matches(word, [*preset_names(), *pretrain_preset_names()]))
