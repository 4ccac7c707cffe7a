"""`guidino settings`: list all settings of runs and of pretraining with values, defaults and meanings."""

import shutil
import textwrap
from collections.abc import Sequence

from guidino_cli.config import RunConfig
from guidino_cli.errors import ConfigError, unknown_name
from guidino_cli.pretrain_config import PretrainConfig
from guidino_cli.settings_reference import SettingInfo, list_setting_infos

MARKDOWN_HEAD = """\
# All settings

Written by `guidino settings --markdown`; `guidino settings WORD` prints those with a word in their name.

A preset (a YAML file, or a name of `guidino presets`) sets some of them. `--set` changes one by its path:
`--set train.lr=1e-3`, `--set model.guide=null` (none), `--set model.lora={}` (a section with its defaults),
`--set 'train.loss={dice: 1, cross_entropy: 1}'`. `config.yaml` in a run folder holds all settings of the run.
Unknown names and impossible values are refused before anything is loaded.

A section that may be null is off unless a preset or `--set` gives it; once it is on, its settings have the defaults
below.
"""


def run(words: Sequence[str], *, pretrain: bool, markdown: bool) -> None:
    """Print settings as text, or all of them as the page docs/settings.md.

    Args:
        words: Parts of names; empty for all.
        pretrain: Settings of `pretrain` instead of `train`.
        markdown: Print the page.

    Raises:
        ConfigError: No setting has such a name.
    """
    if markdown:
        print(format_page(), end="")
        return
    infos = list(list_setting_infos(PretrainConfig if pretrain else RunConfig))
    for word in words:
        if not any(word in info.path for info in infos):
            names = [info.path for info in infos]
            raise ConfigError(unknown_name("setting", word, names, lister="guidino settings"))
    shown = [info for info in infos if not words or any(word in info.path for word in words)]
    width = min(shutil.get_terminal_size().columns, 120)
    print("\n".join(_format_lines(info, width) for info in shown))


def format_page() -> str:
    """The page docs/settings.md."""
    parts = [MARKDOWN_HEAD]
    for title, section in (
        ("Settings of `train` and `lora-tune`", RunConfig),
        ("Settings of `pretrain`", PretrainConfig),
    ):
        rows = [_format_row(info) for info in list_setting_infos(section)]
        parts.append(
            f"## {title}\n\n| setting | values | default | meaning |\n|---|---|---|---|\n" + "\n".join(rows) + "\n"
        )
    return "\n".join(parts)


def _format_lines(info: SettingInfo, width: int) -> str:
    default = f" = {info.default}" if info.default else ""
    meaning = textwrap.fill(info.meaning, width, initial_indent="    ", subsequent_indent="    ")
    return f"{info.path}{default}  ({info.values})\n{meaning}"


def _format_row(info: SettingInfo) -> str:
    default = f"`{info.default}`" if info.default else ""
    return f"| `{info.path}` | {info.values} | {default} | {info.meaning} |"
