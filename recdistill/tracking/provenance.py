"""Which code and which contracts made a run: tags for :meth:`Tracker.run`."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

from recdistill.contracts.schema import load_contract
from recdistill.resources import data_contracts

_PACKAGE = Path(__file__).resolve().parents[1]
_GIT_SECONDS = 5.0


def provenance_tags() -> dict[str, str]:
    """``code_version`` (with the commit, in a checkout) and ``contract.<table>`` for every data contract."""
    contracts = sorted(path.stem for path in data_contracts().glob("*.yaml"))
    return {"code_version": code_version(), **{f"contract.{name}": load_contract(name).version for name in contracts}}


def code_version() -> str:
    """``0.1.0``, in a git checkout ``0.1.0+g<commit>``, with ``.dirty`` when files differ from it."""
    version = importlib.metadata.version("recdistill")
    if not (_PACKAGE.parent / ".git").exists():
        return version
    commit = _git("rev-parse", "--short=12", "HEAD")
    if not commit:
        return version
    return f"{version}+g{commit}{'.dirty' if _git('status', '--porcelain', '--untracked-files=no') else ''}"


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_PACKAGE.parent), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
