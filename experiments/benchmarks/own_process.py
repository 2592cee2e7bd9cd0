"""A part of a benchmark in a process of its own, whose peak of memory is then that part's."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import Any


def told_by(script: str, **options: Any) -> dict[str, Any]:
    """The JSON that a script prints, given options by their names."""
    told = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run([sys.executable, script, *told], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peak() -> float:
    """MiB that this process held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kilobytes on Linux
