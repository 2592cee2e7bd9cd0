"""Failure injection: broken packages put before the real ones on PYTHONPATH."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from recdistill import doctor
from recdistill.doctor import Check


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def _plant(folder: Path, package: str, code: str) -> None:
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(code)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "raise ImportError('fbgemm_gpu_py.so: undefined symbol: _ZN3c104impl3cow11cow_deleterEPv')",
            "undefined symbol: _ZN3c10",
        ),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "crashed the interpreter (SIGSEGV)"),
        ("import os\nprint('bye', flush=True)\nos._exit(3)", "ended with code 3"),
        ("__version__ = '1.9.0'", "No module named 'fbgemm_gpu.split_embedding_configs'"),
    ],
)
def test_a_broken_fbgemm_is_told_with_its_remedy(broken: Path, code: str, said: str) -> None:
    _plant(broken, "fbgemm_gpu", code)
    check = doctor._fbgemm(doctor._probe("fbgemm"), cuda=False)
    assert check.status == "fault"
    assert said in check.detail
    assert "pip install torch==2.13.0 fbgemm-gpu-cpu==1.8.0" in check.remedy
    assert "--no-deps torchrec==1.8.0" in check.remedy
    assert (
        "pip install torch==2.13.0 fbgemm-gpu==1.8.0 torchrec==1.8.0"
        in doctor._fbgemm(doctor._probe("fbgemm"), cuda=True).remedy
    )


def test_wrong_numbers_are_a_fault_too(broken: Path) -> None:
    (broken / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'fbgemm' in sys.argv:\n"
        "    import torch\n"
        "    plain = torch.Tensor.square\n"
        "    torch.Tensor.square = lambda self: plain(self) * 1.01\n"
    )
    check = doctor._fbgemm(doctor._probe("fbgemm"), cuda=False)
    assert check.status == "fault"
    assert "row-wise Adagrad step is wrong" in check.detail


def test_without_torch_the_doctor_still_works(broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _plant(broken, "torch", "raise ModuleNotFoundError(\"No module named 'torch'\")")
    code = "from recdistill import doctor as d; c = d.diagnose(); d.show(c); raise SystemExit(any(not x.ok for x in c))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("✗ torch "))
    assert "No module named 'torch'" in lines[at]
    assert "pip install torch==2.13.0" in lines[at + 1]
    assert sum(line.startswith("–") and line.endswith("mend torch first") for line in lines) == 5
    assert lines[-1] == "1 fault, see the remedies"


def test_two_builds_in_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", {"fbgemm-gpu-cpu": "1.8.0", "fbgemm-gpu": "1.9.0"}.get)
    monkeypatch.setattr(doctor, "_has_library", lambda name: True)
    check = doctor._fbgemm(doctor._Answer(True, "1.9.0", {"variant": "cuda"}), cuda=False)
    assert check.status == "fault"
    assert "fbgemm-gpu-cpu 1.8.0 and fbgemm-gpu 1.9.0 share one folder" in check.detail


@pytest.mark.parametrize(
    ("variant", "cuda", "status"),
    [("cpu", False, "ok"), ("cuda", True, "ok"), ("cpu", True, "warning"), ("cuda", False, "warning")],
)
def test_builds_that_do_not_match(variant: str, cuda: bool, status: str) -> None:
    assert doctor._fbgemm(doctor._Answer(True, "1.8.0", {"variant": variant}), cuda=cuda).status == status


def test_another_torch_does_not_pair() -> None:
    check = doctor._torch(doctor._Answer(True, "2.14.0+cu130, CUDA build", {}))
    assert (check.status, check.remedy) == ("fault", "python -m pip install torch==2.13.0")


def test_torchvision_and_another_torchmetrics_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", {"torchvision": "0.30", "torchmetrics": "1.8.0"}.get)
    assert [(check.name, check.status, check.ok) for check in doctor._companions()] == [
        ("torchvision", "warning", True),
        ("torchmetrics", "warning", True),
    ]


def test_a_tracking_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        uri = f"http://ann:s3cr3t@127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        check = doctor._tracking_server(doctor._probe("tracking_server"))
    assert check.status == "fault"
    assert "refused" in check.detail.lower()
    assert "s3cr3t" not in check.detail
    assert "mlflow server --host 127.0.0.1" in check.remedy


def test_a_probe_that_never_ends_is_ended(broken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _plant(broken, "soundfile", "import time\ntime.sleep(60)")
    monkeypatch.setattr(doctor, "_PROBE_SECONDS", 2.0)
    assert doctor._probe("audio").detail == "did not come back within 2 s"


def test_full_disk_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 2e9})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert doctor._disk(tmp_path / "not" / "there").status == "warning"
    usage.free = 1e8
    assert doctor._disk(tmp_path).status == "fault"
    for available, status in ((0.5, "fault"), (2.0, "warning"), (8.0, "ok"), (None, "skipped")):
        monkeypatch.setattr(doctor, "_available_memory", lambda value=available: value)
        assert doctor._memory().status == status


def test_every_fault_has_a_remedy_that_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    doctor.show([Check("a", "ok", "fine [bold]"), Check("bb", "fault", "bad", "do this\nthen [that]")])
    assert capsys.readouterr().out.splitlines() == [
        "✓ a   fine [bold]",
        "✗ bb  bad",
        "      remedy: do this",
        "              then [that]",
        "1 fault, see the remedies",
    ]


@pytest.mark.slow
def test_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    checks = {check.name: check for check in doctor.diagnose()}
    assert set(checks) >= {
        "python",
        "disk",
        "memory",
        "torch",
        "fbgemm-gpu",
        "torchrec",
        "transformers",
        "text encoder",
        "audio",
        "mlflow",
    }
    for check in checks.values():
        assert check.ok or check.remedy, check
    for name in ("torch", "fbgemm-gpu", "torchrec", "transformers", "audio", "mlflow"):
        assert checks[name].status == "ok", checks[name]
