"""A real MLflow SQLite store, migrated once and copied: migrating takes five seconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from recdistill.tracking.sender import Sender


@pytest.fixture(autouse=True)
def _no_address_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def out(tmp_path: Path, empty_database: Path) -> Path:
    """A run folder, its path with a space, with the default store in it."""
    folder = tmp_path / "run folder"
    folder.mkdir()
    shutil.copy(empty_database, folder / "mlflow.db")
    return folder


@pytest.fixture
def client(out: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{out / 'mlflow.db'}")


@pytest.fixture
def deliver(out: Path) -> Callable[[], bool]:
    """One attempt of a fresh sender, in this process."""

    def attempt() -> bool:
        uri = f"sqlite:///{out / 'mlflow.db'}"
        return Sender(out=out, store="local", uri=uri, local=True, journal=None).attempt()

    return attempt
