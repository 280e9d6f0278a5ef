"""``python -m resumable`` is the command ``resumable``."""

from __future__ import annotations

from resumable.commands import main

if __name__ == "__main__":
    main()
