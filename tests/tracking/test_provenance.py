from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path

import pytest

from recdistill.tracking import provenance


def test_every_contract_has_a_version_tag() -> None:
    tags = provenance.provenance_tags()
    assert tags["code_version"].startswith(importlib.metadata.version("recdistill"))
    assert tags["contract.interactions"].count(".") == 2
    assert {"contract.items", "contract.metric_records", "contract.teacher_embeddings"} <= set(tags)


def test_a_checkout_names_its_commit_and_whether_it_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version("recdistill")
    monkeypatch.setattr(provenance, "_PACKAGE", tmp_path / "recdistill")
    assert provenance.code_version() == version
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("1")
    for arguments in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"]):
        subprocess.run([*git, *arguments], check=True)
    clean = provenance.code_version()
    assert clean.startswith(f"{version}+g")
    assert len(clean.split("+g")[1]) == 12
    (tmp_path / "file").write_text("2")
    assert provenance.code_version() == f"{clean}.dirty"
