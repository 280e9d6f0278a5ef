"""--help: every command has examples, and the examples can be run; and how wrong use is answered."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from resumable.commands import resumable


def commands(command: click.Command = resumable, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from commands(below, (*path, name))


def found(path: tuple[str, ...]) -> click.Command:
    command: click.Command = resumable
    for name in path:
        assert isinstance(command, click.Group)
        command = command.commands[name]
    return command


def test_these_are_the_commands() -> None:
    assert set(commands()) >= {
        ("check",),
        ("uploads", "list"),
        ("uploads", "show"),
        ("uploads", "cancel"),
        ("events", "list"),
        ("events", "replay"),
        ("clean",),
    }


@pytest.mark.parametrize("path", list(commands()), ids=" ".join)
def test_help_has_examples_that_can_be_run(path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is a command with options that exist, on a line of its own."""
    monkeypatch.setenv("RESUMABLE_CONFIG", "app.yaml")
    shown = CliRunner().invoke(resumable, [*path, "--help"])
    assert shown.exit_code == 0
    _, found, after = shown.output.partition("Examples:\n")
    assert found
    lines = [line.strip() for line in after.splitlines()]
    examples = [shlex.split(line.partition(">")[0]) for line in lines if line.startswith("resumable ")]
    assert examples
    for _, *arguments in examples:
        command: click.Command = resumable
        while isinstance(command, click.Group):
            command = command.commands[arguments.pop(0)]
        command.make_context(command.name, arguments)  # raises where an option does not exist


@pytest.mark.parametrize("arguments", [["check"], ["uploads", "list"], ["events", "replay", "msg_1"], ["clean"]])
def test_a_configuration_that_is_not_named(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """As beside the demonstration, which has none: it is said what to do."""
    monkeypatch.delenv("RESUMABLE_CONFIG", raising=False)
    ended = CliRunner().invoke(resumable, arguments)
    said = " ".join(ended.stderr.split())
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "Missing option '--config' / '-c': name the configuration of the service, or set RESUMABLE_CONFIG" in said
    assert "(twistd -n resumable) keeps its ledger in memory" in said
    assert "curl http://127.0.0.1:8080/metrics" in said


#: Commands for those who upload, who have no configuration.
FOR_CLIENTS = {("put",), ("completion",)}


@pytest.mark.parametrize(
    "path",
    [path for path in commands() if not isinstance(found(path), click.Group) and path not in FOR_CLIENTS],
    ids=" ".join,
)
def test_every_command_of_the_operators_has_config_and_json(path: tuple[str, ...]) -> None:
    options = {option for param in found(path).params for option in param.opts}
    assert options >= {"--config", "-c", "--json"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", "-c", "app.yaml", "--fast"],
        ["uploads", "list", "-c", "app.yaml", "--state", "sleeping"],
        ["uploads", "list", "-c", "app.yaml", "--older-than", "yesterday"],
        ["uploads", "list", "-c", "app.yaml", "--limit", "0"],
        ["uploads", "show", "-c", "app.yaml"],
        ["upload"],
    ],
)
def test_wrong_use(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit status 2, and what is wrong on standard error."""
    monkeypatch.delenv("RESUMABLE_CONFIG", raising=False)
    ended = CliRunner().invoke(resumable, arguments)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert "Error: " in ended.stderr
