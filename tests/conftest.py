"""What all tests share: one thread, no network, and where the shared data are."""

from __future__ import annotations

import os

# Before anything imports torch or transformers. One thread, so that two workers share two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["COLUMNS"] = "100"

from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]

settings.register_profile("musegen", deadline=None, database=None, derandomize=True)
settings.load_profile("musegen")


def shared_folder() -> Path | None:
    """The shared data: MUSEGEN_SHARED, or `shared` beside the checkout. None without them."""
    named = os.environ.get("MUSEGEN_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder / "data" if (folder / "data").is_dir() else None


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_data = pytest.mark.skip(reason="no shared data: set MUSEGEN_SHARED")
    no_gpu = pytest.mark.skip(reason="no CUDA device")
    data_is_there = shared_folder() is not None
    gpu_items = [item for item in items if item.get_closest_marker("gpu")]
    for item in items:
        if item.get_closest_marker("data") and not data_is_there:
            item.add_marker(no_data)
    if gpu_items and not _has_gpu():
        for item in gpu_items:
            item.add_marker(no_gpu)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The shared data folder; the test carries `@pytest.mark.data`."""
    folder = shared_folder()
    if folder is None:
        # Marked tests were skipped before they came here: this one lacks the mark.
        pytest.fail("a test that reads the shared data carries @pytest.mark.data")
    return folder


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees, or writes into, the user's own folder."""
    monkeypatch.setenv("MUSEGEN_HOME", str(tmp_path_factory.getbasetemp() / "home"))
