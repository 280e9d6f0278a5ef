"""From YAML text to a tree of plain values, with what comes from the environment filled in."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

#: Called with the place (a dotted path, or empty for the whole file) and what is wrong there.
Report = Callable[[str, str], None]

_HARMLESS = re.compile(r"(?:[^'\"]|'(?:<[\w ]+>|\W{1,2})')*")
#: A key of the configuration with a value on the same line: its indentation and its name.
_KEY_WITH_VALUE = re.compile(r"( *)([a-z_]+): +[^\s#]")
#: What the parser says of such keys.
_KEYS_BELOW_A_VALUE = {
    "mapping values are not allowed here",
    "expected <block end>, but found '<block mapping start>'",
}
_REFERENCE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}|)")


class BadYaml(ValueError):
    """A text that cannot be read at all, as one line for people."""


def parse_yaml(text: str, report: Report) -> Any:
    """Return what the YAML `text` holds; keys given twice are reported, and the later one counts.

    :raises BadYaml: for syntax errors, with the line, and for a text that holds nothing.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            raise BadYaml("holds no settings")
        _report_duplicates(node, "", report)
        return loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = _place(before.count("\n"), len(before) - before.rfind("\n") - 1)
        raise BadYaml(f"{place}: holds a character that YAML does not allow") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = _place(mark.line, mark.column) if mark else _place(0, 0)
        problem = _without_quotes(error.problem or "is not YAML")
        raise BadYaml(f"{place}: {_in_plain_words(problem, text, mark.line if mark else 0)}") from None
    except RecursionError:
        raise BadYaml("nests too deeply") from None
    except BadYaml:
        raise
    except ValueError:
        # What looks like a date or a number to YAML, and is none.
        raise BadYaml("holds an impossible date or number (put it in quotes)") from None


def _place(line: int, column: int) -> str:
    """Return where something is, for people, who count from 1. `line` and `column` count from 0."""
    return f"line {line + 1}, column {column + 1}"


def _in_plain_words(problem: str, text: str, line: int) -> str:
    """Return what is wrong in the words of whoever has written the file, for the mistakes that are made most.

    :param problem: in the parser's words.
    :param line: the number of the line of `text` where it has noticed it, from 0.
    """
    lines = text.split("\n")
    found = lines[line] if line < len(lines) else ""
    indent = found[: len(found) - len(found.lstrip())]
    if "\t" in indent:
        return "a tab is used to indent, where YAML takes only spaces"
    above = next((one for one in reversed(lines[:line]) if one.strip() and not one.lstrip().startswith("#")), "")
    key = _KEY_WITH_VALUE.match(above)
    if problem in _KEYS_BELOW_A_VALUE and key is not None and len(indent) > len(key[1]):
        return f"{key[2]} has a value already, on the line above, and no keys may stand below it; take one of them away"
    return problem


def _without_quotes(problem: str) -> str:
    """`problem` up to where it quotes the file, as that may be a piece of a secret; ``'<token>'`` and ``','`` stay."""
    line = " ".join(problem.split())
    told = _HARMLESS.match(line)
    return line if told is None or told.end() == len(line) else line[: told.end()] + "…"


def _report_duplicates(node: yaml.Node, path: str, report: Report) -> None:
    """Report keys given twice, which YAML's loader would pass over in silence."""
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _report_duplicates(item, f"{path}[{index}]", report)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for name, item in node.value:
            place = join(path, str(name.value))
            line = name.start_mark.line + 1
            if lines.setdefault(place, line) != line:
                report(place, f"given twice (lines {lines[place]} and {line})")
            _report_duplicates(item, place, report)


def join(path: str, name: str) -> str:
    """Return the dotted path of the key `name` in the section at `path`."""
    return f"{path}.{name}" if path else name


def expand(tree: Any, environ: Mapping[str, str], report: Report, path: str = "") -> Any:
    """`tree` with ``${NAME}`` and ``${NAME:-default}`` in its texts replaced from `environ`, and ``$$`` by ``$``.

    As in a shell, the default also stands in for a variable that is set to nothing. A variable that is missing is
    reported and leaves None. What a variable holds is taken as it is, whatever it looks like.
    """
    if isinstance(tree, dict):
        return {name: expand(item, environ, report, join(path, str(name))) for name, item in tree.items()}
    if isinstance(tree, list):
        return [expand(item, environ, report, f"{path}[{index}]") for index, item in enumerate(tree)]
    if not isinstance(tree, str):
        return tree

    missing: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if match["name"] is None:
            missing.append("holds a $ that is neither ${NAME} nor ${NAME:-default}; write $$ for a $")
            return ""
        value = environ.get(match["name"])
        if match["default"] is not None:
            return value or match["default"]
        if value is None:
            missing.append(f"the environment variable {match['name']} is not set")
        return value or ""

    expanded = _REFERENCE.sub(replacement, tree)
    if not missing:
        return expanded
    report(path, "; ".join(dict.fromkeys(missing)))
    return None
