"""How much of the disc a server's temporary files take."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from bench.tree import ProcessTree

#: Seconds between two looks. A file that lives shorter may be missed.
INTERVAL = 0.05


class DiscWatch:
    """Measures what a folder takes while the ``with`` block runs, including deleted files that are still open."""

    def __init__(self, folder: Path, tree: ProcessTree) -> None:
        self._folder = folder
        self._tree = tree
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        #: The most bytes that were seen.
        self.peak = 0

    def __enter__(self) -> DiscWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._now())
            if self._over.wait(INTERVAL):
                return

    def _now(self) -> int:
        files = self._tree.deleted_files(self._folder)
        for directory, _, names in os.walk(self._folder):
            for name in names:
                try:
                    status = os.stat(os.path.join(directory, name))
                except OSError:
                    continue
                files[status.st_dev, status.st_ino] = status.st_blocks * 512
        return sum(files.values())
