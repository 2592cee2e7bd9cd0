"""``experiments/benchmarks/own_process.py``: whose memory a benchmark reports."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
SCRIPT = """
import argparse, sys
sys.path.append({folder!r})
from own_process import peak
parser = argparse.ArgumentParser()
parser.add_argument("--megabytes", type=int)
held = bytearray(b"x") * (parser.parse_args().megabytes << 20)
del held
print(peak())
"""


@pytest.fixture
def own_process(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("own_process")


def test_a_childs_peak_is_its_own_and_not_what_its_parent_held(own_process: ModuleType, tmp_path: Path) -> None:
    if not own_process.STATUS.exists():
        pytest.skip("no /proc: the peak of a child is not told from its parent's here")
    script = tmp_path / "held.py"
    script.write_text(SCRIPT.format(folder=str(BENCHMARKS)))
    ours = np.ones(300 << 17)  # 300 MiB
    small, large = (own_process.told_by(str(script), megabytes=megabytes) for megabytes in (1, 150))
    assert small < 100 < 150 < large < 250 and ours.all()
    assert own_process.peak() > 300


@pytest.mark.parametrize("status", [None, "Name:\tpython\nVmRSS:\t1 kB\n"])
def test_a_system_that_does_not_tell_a_peak_has_the_resource_counter(
    own_process: ModuleType, tmp_path: Path, status: str | None
) -> None:
    path = tmp_path / "status"
    if status:
        path.write_text(status)
    assert own_process.peak(status=path) > 10
    path.write_text("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t 7 kB\n")
    assert own_process.peak(status=path) == 2
