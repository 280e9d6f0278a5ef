"""A group whose commands are imported when they are asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import click


class _Commands(dict[str, click.Command]):
    """Commands by name. A module that is to be imported stands for its command until that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, str] = {}

    def __getitem__(self, name: str) -> click.Command:
        module = self.modules.pop(name, None)
        if module is not None:
            self[name] = getattr(import_module(module), name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        try:
            return self[name]
        except KeyError:
            return default

    def items(self) -> Any:
        self._import_all()
        return super().items()

    def values(self) -> Any:
        self._import_all()
        return super().values()

    def _import_all(self) -> None:
        for name in list(self.modules):
            self[name]


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands: _Commands = _Commands()

    def add_lazily(self, name: str, module: str) -> None:
        """Add the command that has this name in the module."""
        self.commands[name] = click.Command(name)
        self.commands.modules[name] = module
