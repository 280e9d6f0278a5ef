"""A driver: ``python -m bench.clients`` with a job as JSON on standard input."""

from __future__ import annotations

import json
import sys

from attrs import asdict

from bench.clients.job import Job
from bench.clients.slow import SlowUploads
from bench.clients.uploads import Uploads
from bench.limits import raise_file_limit


def main() -> None:
    """Do the job and print the report."""
    raise_file_limit()
    job = Job(**json.load(sys.stdin))
    report = SlowUploads(job).run() if job.rate else Uploads(job).run()
    json.dump(asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
