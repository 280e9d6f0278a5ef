"""A script in Node that takes orders (``javascript/orders.mjs``): one process for many tests, for each takes a second."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tests.clients.node import PATIENCE, end, start


class Failed(Exception):
    """What was ordered ended in an error.

    :ivar name: of the error's class, in JavaScript.
    :ivar code: what the client says of it; None if it says none.
    """

    def __init__(self, said: Mapping[str, Any]) -> None:
        super().__init__(f"{said['name']} {said['code']}: {said['message']}")
        self.name, self.code = said["name"], said["code"]


class Driver:
    """The script while it runs."""

    def __init__(self, script: str, task: Mapping[str, Any], **environment: str) -> None:
        self._waiting: dict[int, Future[Any]] = {0: Future()}
        self._process = start(script, task, **environment)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        try:
            self._waiting[0].result(PATIENCE)
        except BaseException:
            end(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it: what it was doing breaks off."""
        end(self._process)
        self._reader.join(PATIENCE)

    def order(self, name: str, *given: Any) -> Future[Any]:
        """Have it do something; what comes of it (`Failed`: an error of the client's)."""
        ticket = len(self._waiting)
        ordered = self._waiting[ticket] = Future()
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([ticket, name, *given]) + "\n")
        self._process.stdin.flush()
        return ordered

    def do(self, name: str, *given: Any) -> Any:
        """Have it do something, and wait until it is done.

        :raises Failed: it ended in an error.
        """
        return self.order(name, *given).result(PATIENCE)

    def _read(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        for line in self._process.stdout:
            said = json.loads(line)
            ordered = self._waiting[said["ticket"]]
            if "failed" in said:
                ordered.set_exception(Failed(said["failed"]))
            else:
                ordered.set_result(said["value"])
        complained = self._process.stderr.read()
        for ordered in self._waiting.values():
            if not ordered.done():
                ordered.set_exception(RuntimeError(f"the script has ended: {complained}"))
