"""The wheel: built, installed into a bare environment, used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL = 40_000_000
"""Bytes: the default model may take 16 million of them, the model of bars 12, that of icons 6; its
features are small. An index takes files of 100 million."""

pytestmark = pytest.mark.slow


def call(*command: object, cwd: Path, **variables: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what git knows, so that building leaves nothing behind in the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = call("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return folder


def build(tree: Path, out: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q"]
    call(*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", out, tree, cwd=out)
    [wheel] = out.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    return build(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory) -> Path:
    """An environment with the wheel; its dependencies are lent by the one that runs the test."""
    folder = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = call(
        python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder
    ).strip()
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    call(*pip, "install", "-q", "--no-deps", "--no-index", wheel, cwd=folder)
    # A .pth line is read without its own .pth files: an editable musegen there stays unseen.
    (Path(site) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin"


def test_the_wheel_holds_the_package_and_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for source, target in (
        ("musegen", "musegen"),
        ("cli", "musegen/cli"),
        ("tokenizers", "musegen/tokenizers"),
        ("datasets", "musegen/datasets"),
    ):
        for path in (ROOT / source).rglob("*"):
            if path.suffix in {".py", ".json", ".toml", ".safetensors"} and path.is_file():
                assert f"{target}/{path.relative_to(ROOT / source).as_posix()}" in names
    assert "musegen/py.typed" in names
    tops = {name.split("/")[0] for name in names}
    assert all(top == "musegen" or top.endswith(".dist-info") for top in tops), tops
    assert wheel.stat().st_size < LARGEST_WHEEL


def test_the_source_archive_builds_the_same_wheel(checkout, wheel, tmp_path):
    script = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    archive = call(sys.executable, "-c", script, cwd=checkout).splitlines()[-1]
    again = build(tmp_path / archive, tmp_path)
    ours, theirs = (
        sorted(name for name in zipfile.ZipFile(path).namelist()) for path in (wheel, again)
    )
    assert ours == theirs


def test_the_wheel_works_outside_the_checkout(bare, tmp_path):
    where = call(bare / "python", "-c", "import musegen; print(musegen.__file__)", cwd=tmp_path)
    assert str(bare.parent) in where
    call(bare / "python", "-c", "import miditok, transformers", cwd=tmp_path)
    home = {"MUSEGEN_HOME": str(tmp_path / "home")}
    assert "compose" in call(bare / "musegen", "--help", cwd=tmp_path)
    assert "default" in call(bare / "musegen", "models", cwd=tmp_path, **home)
    assert "music21" in call(bare / "musegen", "data", "list", cwd=tmp_path, **home)
    out = tmp_path / "x.mid"
    call(
        *(bare / "musegen", "compose", "--bars", "2", "--random-seed", "1", "--out", out),
        cwd=tmp_path,
        **home,
    )
    assert out.read_bytes().startswith(b"MThd")


def test_musegen_runs_from_the_root_of_the_checkout(tmp_path):
    """tokenizers/ and datasets/ at the root must not hide the packages of the same names."""
    code = "import tokenizers, miditok, transformers, musegen.cli; print(tokenizers.__version__)"
    assert call(sys.executable, "-c", code, cwd=ROOT)
