"""Reference pages that are made of the code: ``<!-- generated: NAME -->`` in a page is replaced by what NAME stands for."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from sphinx.errors import ExtensionError

_MARK = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
_SETTING = re.compile(r"(?P<indent> *)(?P<default>#?)(?P<name>[a-z_]+):(?: +(?P<value>.*))?$")
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$])")
#: What `resumable.settings.reader` calls its rule in a field's metadata.
_RULE = "resumable.settings"


@attrs.frozen
class Explanation:
    """What config/app.yaml says of a setting.

    :ivar says: the comment above it.
    :ivar value: as it is written there; empty where nothing stands behind the colon.
    :ivar is_default: whether that is its default; otherwise it is an example.
    """

    says: str
    value: str
    is_default: bool


def explanations(text: str) -> dict[str, Explanation]:
    """Return what config/app.yaml says of each setting, by its dotted path.

    A setting is commented out if it is at its default: ``#name: value``, without a space behind the ``#``. A comment may be
    for several settings that follow each other.
    """
    found: dict[str, Explanation] = {}
    comment: list[str] = []
    sections: list[tuple[int, str]] = []
    complete = True  # the next line of comment begins another one
    for line in text.splitlines():
        setting = _SETTING.fullmatch(line)
        if setting is not None:
            depth = len(setting["indent"])
            sections = [*(section for section in sections if section[0] < depth), (depth, setting["name"])]
            path = ".".join(name for _, name in sections)
            found[path] = Explanation(" ".join(comment), setting["value"] or "", bool(setting["default"]))
            complete = True
        elif line.lstrip().startswith("# "):
            if complete:
                comment, complete = [], False
            comment.append(line.lstrip()[2:])
        elif not line.strip():
            comment = []
    return found


def settings_reference(root: Path) -> str:
    """Return a section for each setting of the schema, in its order, with what config/app.yaml says of it."""
    from resumable.settings import Settings

    explained = explanations((root / "config" / "app.yaml").read_text("utf-8"))
    return "\n".join(_settings(Settings, "", explained))


def _settings(cls: type[Any], path: str, explained: Mapping[str, Explanation]) -> Iterator[str]:
    """Yield the Markdown of one section of the configuration and of those in it.

    :raises ExtensionError: config/app.yaml does not have a setting of the schema.
    """
    for field in attrs.fields(cls):
        place = f"{path}.{field.name}" if path else field.name
        if place not in explained:
            raise ExtensionError(f"config/app.yaml does not explain {place}")
        section = field.metadata[_RULE].section
        yield f"{'###' if path else '##'} `{place}`\n"
        if section is None:
            yield f"{_value(explained[place], required=field.default is attrs.NOTHING)}\n"
        # A comment is plain text: nothing in it is Markdown.
        yield _SPECIAL.sub(r"\\\1", explained[place].says) + "\n"
        if section is not None:
            yield from _settings(section, place, explained)


def _value(found: Explanation, *, required: bool) -> str:
    if found.value and found.is_default:
        return f"Default: `{found.value}`"
    said = "Required." if required else "No default."
    return f"{said} In the file: `{found.value}`" if found.value else said


def command_reference(root: Path) -> str:
    """Return the help of every command, as it prints it."""
    from resumable.commands import resumable
    from resumable.tap import Options

    options = Options()
    usage = f"Usage: twistd [options of twistd] resumable {options.synopsis}\n{options.getUsage(100)}"
    lines = ["## `twistd resumable`\n", _shown(usage)]
    context = click.Context(resumable, info_name="resumable", terminal_width=100)
    lines += [part for name, text in _helps(resumable, context) for part in (f"## `{name}`\n", _shown(text))]
    return "\n".join(lines)


def _helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Yield the names of the command and of those in it, and their help."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _helps(found, click.Context(found, info_name=name, parent=context, terminal_width=100))


def _shown(text: str) -> str:
    return f"```text\n{text.strip()}\n```\n"


_GENERATED: Mapping[str, Callable[[Path], str]] = {"settings": settings_reference, "commands": command_reference}


def fill_in(text: str, root: Path) -> str:
    """Return a page's text with its marks replaced.

    :param root: the repository's root.
    :raises ExtensionError: a mark names nothing, or something cannot be made.
    """

    def replacement(match: re.Match[str]) -> str:
        if match[1] not in _GENERATED:
            raise ExtensionError(f"nothing is generated by the name {match[1]}")
        return _GENERATED[match[1]](root)

    return _MARK.sub(replacement, text)


def _on_source(app: Any, _docname: str, source: list[str]) -> None:
    source[0] = fill_in(source[0], Path(app.srcdir).parent)


def _outdated(app: Any, env: Any, added: set[str], _changed: set[str], _removed: set[str]) -> list[str]:
    """Name the pages with a mark: what they are made of may have changed, though their own text has not."""
    known = set(env.found_docs) - added
    return [name for name in known if _MARK.search(Path(app.env.doc2path(name)).read_text("utf-8"))]


def setup(app: Any) -> dict[str, Any]:
    """Register with Sphinx."""
    # The operator's commands import it, and it tells of its plugins.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    app.connect("source-read", _on_source)
    app.connect("env-get-outdated", _outdated)
    return {"parallel_read_safe": True}
