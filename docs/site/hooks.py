"""What the site has beside docs/: pages of the repository that lie elsewhere, and pages made from the code.

MkDocs calls the functions `on_...`; see mkdocs.yml.
"""

import posixpath
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
_LINK = re.compile(r"(?P<before>\]\()(?P<path>[^)\s#]*)(?P<anchor>#[^)\s]*)?(?P<after>\))")
# An option in a sentence, which the browser would break at its hyphens.
_OPTION = re.compile(r"(?<![\w`=-])(--[a-z][a-z-]*)(?![^`\s]*`)")
_FIXED = {
    "README.md": "overview.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "AGENTS.md": "agents.md",
    "examples/data/README.md": "example-data.md",
}


def on_config(config: Any) -> Any:
    """Fill the sections of measurements and commands; list pages that the navigation forgot instead of hiding them."""
    results = [uri for uri in _pages().values() if uri.startswith("results/")]
    commands = sorted(_command_pages(), key=lambda uri: (uri != "commands/index.md", uri))
    config.nav = _fill(config.nav, {"results/": results, "commands/": commands})
    listed = set(_listed(config.nav))
    others = [uri for uri in sorted(_pages().values()) if uri not in listed and not uri.startswith("results/")]
    if others:
        config.nav.append({"More": others})
    return config


def on_files(files: Files, *, config: Any) -> Files:
    """Add the pages, and files that they link to, such as tables of results."""
    pages = _pages()
    for path, uri in pages.items():
        if not path.startswith("docs/"):
            files.append(File.generated(config, uri, content=_with_links_of_the_site(path, uri)))
    for path in sorted({target for page in pages for target in _other_targets(page)}):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    for uri, text in {**_command_pages(), "preset-files.md": _presets()}.items():
        files.append(File.generated(config, uri, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Turn links that work in the repository into links of the site."""
    path = f"docs/{page.file.src_uri}"
    return _relink(markdown, path, page.file.src_uri) if path in _pages() else markdown


def _pages() -> dict[str, str]:
    """Every page that is a file of the repository, and where the site has it."""
    fixed = {path: uri for path, uri in _FIXED.items() if (ROOT / path).is_file()}
    docs = {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    results = {path.relative_to(ROOT).as_posix(): f"results/{path.name}" for path in _results()}
    return {**docs, **fixed, **results}


def _results() -> list[Path]:
    return sorted((ROOT / "benchmarks" / "results").glob("*.md"))


def _fill(nav: Any, sections: dict[str, list[str]]) -> Any:
    """The navigation with the pages of a folder in place of its name."""
    if isinstance(nav, dict):
        return {title: _fill(value, sections) for title, value in nav.items()}
    if isinstance(nav, list):
        return [_fill(item, sections) for item in nav]
    return sections.get(nav, nav)


def _listed(nav: Any) -> Iterator[str]:
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from [value] if isinstance(value, str) else _listed(value)


def _other_targets(page: str) -> Iterator[str]:
    """Files that are no pages, but linked to."""
    for match in _LINK.finditer((ROOT / page).read_text(encoding="utf-8")):
        path = _resolve(page, match["path"])
        if path and path not in _pages() and not path.startswith("docs/") and (ROOT / path).is_file():
            yield path


def _with_links_of_the_site(path: str, uri: str) -> str:
    return _relink((ROOT / path).read_text(encoding="utf-8"), path, uri)


def _relink(text: str, path: str, uri: str) -> str:
    def replace(match: re.Match[str]) -> str:
        target = _resolve(path, match["path"])
        if not target:
            return match[0]
        if target in _pages():
            place = _pages()[target]
        else:
            place = target.removeprefix("docs/") if target.startswith("docs/") else f"files/{target}"
        relative = posixpath.relpath(place, posixpath.dirname(uri) or ".")
        return f"{match['before']}{relative}{match['anchor'] or ''}{match['after']}"

    return _LINK.sub(replace, text)


def _resolve(page: str, link: str) -> str:
    """Path in the repository of a relative link, "" for others."""
    if not link or "://" in link or link.startswith(("/", "mailto:")):
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), link))


def _command_pages() -> dict[str, str]:
    """A page for each command with its help text and options, and a list of them."""
    import typer

    from guidino_cli.cli import app

    pages, rows = {}, []
    for name, command in _commands(typer.main.get_command(app), ()):
        pages[f"commands/{name.replace(' ', '-')}.md"] = _command_page(name, command)
        summary = command.get_short_help_str(100)
        rows.append(f"| [`guidino {name}`]({name.replace(' ', '-')}.md) | {_cell(summary)} |")
    table = "\n".join(["| command | what it does |", "|---|---|", *rows])
    codes = "The [exit codes](../overview.md#exit-codes) are those of the overview."
    pages["commands/index.md"] = (
        f"# Commands\n\nMade from the code, as `guidino COMMAND --help` prints it. {codes}\n\n{table}\n"
    )
    return pages


def _commands(group: Any, before: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*before, name))
        else:
            yield " ".join((*before, name)), command


def _command_page(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"guidino {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    help_text = command.help.replace("\b", "").strip()
    text, _, example = help_text.partition("Example:")
    parts = [f"# guidino {name}", _OPTION.sub(r"`\1`", text.strip())]
    if example:
        commands = " ".join(example.split())
        parts.append(f"```bash\n{commands}\n```")
    parts.append(f"```\nguidino {name} {usage}\n```")
    rows = []
    for item in command.get_params(context):
        record = item.get_help_record(context)
        if record is not None:
            rows.append(f"| `{record[0]}` | {_cell(record[1])} |")
    return "\n\n".join([*parts, "\n".join(["| argument or option | meaning |", "|---|---|", *rows])]) + "\n"


def _cell(text: str) -> str:
    return _OPTION.sub(r"`\1`", " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;"))


def _presets() -> str:
    """All presets of `train`, as their files are, by data set."""
    from guidino_cli.config import preset_names, presets_folder

    parts = [
        "# Presets as files",
        "Made from the code, as `guidino presets NAME` prints them: the start of a preset of your own. Which to take: "
        "[presets](presets.md); what each setting means: [settings](settings.md).",
    ]
    for data_set, names in groupby(preset_names(), key=lambda name: name.split("-")[0]):
        parts.append(f"## {data_set}")
        for name in names:
            text = (presets_folder() / f"{name}.yaml").read_text(encoding="utf-8").rstrip()
            parts.append(f"### {name}\n\n```yaml\n{text}\n```")
    return "\n\n".join(parts) + "\n"
