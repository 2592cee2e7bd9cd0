"""A part of a benchmark in a process of its own, whose peak of memory is then that part's."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


def told_by(script: str, **options: Any) -> dict[str, Any]:
    """The JSON that a script prints, given options by their names."""
    told = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run([sys.executable, script, *told], check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def peak(*, status: Path = STATUS) -> float:
    """MiB that this process held at most.

    Args:
        status: Linux's file on the process. Without it, or the peak in it, ``ru_maxrss`` is given: of a child that is
            at least what its parent held when it started it, since Linux carries it over fork and exec.
    """
    told = re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE) if status.exists() else None
    kilobytes = int(told[1]) if told else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / 1024
