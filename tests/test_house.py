"""The rules of the house, as far as a machine can check them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import musegen

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torch", "miditok", "symusic", "music21", "pretty_midi", "mido", "transformers")

LEAVES = {"errors", "atomic", "config", "assets", "guide", "__version__"}
"""Modules at musegen's top that everyone may import."""

MAY_IMPORT = {
    "errors": set(),
    "guide": set(),
    "atomic": {"errors"},
    "config": {"errors"},
    "assets": {"errors"},
    "provenance": {"errors", "music"},
    "idea_origin": {"errors", "music", "provenance"},
    "picture_files": {"errors"},
    "art": LEAVES | {"art", "music"},
    "design": LEAVES | {"design", "art", "music", "picture_files"},
    "music": LEAVES | {"music"},
    "tokens": LEAVES | {"tokens", "music"},
    "data": LEAVES | {"data", "tokens", "music"},
    "models": LEAVES | {"models"},
    "training": LEAVES | {"training", "models.base"},
    "sampling": LEAVES | {"sampling", "models.base"},
    # an engine knows the inside of the family that it computes
    "sampling.engines": LEAVES | {"sampling", "models"},
    "evaluation": LEAVES | {"evaluation", "data", "tokens", "music", "models.base"},
}
"""Who may import whom; the api, which joins them all, is free, and so are the verbs above it."""

FREE = {"__init__", "__main__", "api", "bar_model", "cli", "idea_sections", "ideas", "likeness"}
FREE |= {"model", "covers", "fitting", "image_model", "picture_report", "pictures", "styling"}
FREE |= {"design_space", "designs"}

OUTSIDE = {
    "torch": {
        "models",
        "training",
        "sampling",
        "evaluation",
        "api",
        "bar_model",
        "design.taste",
        "model",
        "picture_report",
    },
    "miditok": {"tokens.midi_tokenizer"},
    "symusic": {"music.export", "tokens.midi_tokenizer"},
    "mido": {"music"},
    "music21": {"music.analysis", "music.export"},
    "pretty_midi": {"music.export"},
    "typer": {"cli"},
    "rich": {"cli"},
    "onnx": {"sampling.engines.onnx_graph"},
    "onnxruntime": {"sampling.engines.onnx"},
    "cma": {"design.search"},
    "ezdxf": {"design.bar_files"},
    "fpdf": {"design.sleeve_files"},
    "aerosandbox": {"design.airfoil"},
    "neuralfoil": {"design.airfoil"},
    "matplotlib": {"evaluation.plots", "art.lettering"},
    "contourpy": {"art.trace"},
    "PIL": {"art.trace", "data.drawings", "picture_files"},
    "platformdirs": {"assets"},
    "resvg_py": {"music.roll", "data.drawings", "covers", "design.sleeve_files"},
    "safetensors": {"models", "training", "sampling", "evaluation"},
    "transformers": set(),
}
"""Each outside library is imported in one place, so that it can break in one place."""


def modules() -> list[tuple[str, Path]]:
    """Every module as (dotted name below musegen, file)."""
    found = []
    for base, prefix in ((ROOT / "musegen", ""), (ROOT / "cli", "cli.")):
        for path in sorted(base.rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            if parts[-1] == "__init__" and len(parts) > 1:
                parts = parts[:-1]
            found.append((prefix + ".".join(parts), path))
    return found


MODULES = modules()
IDS = [name for name, _ in MODULES]


def imports(path: Path, name: str) -> Iterator[tuple[str, int]]:
    """Each import of a file as (dotted name, line), but not those for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            skipped |= {id(inner) for inner in ast.walk(node)}
    package = ["musegen", *name.split(".")]
    if path.name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package[: len(package) - node.level + 1]
                base = ".".join([*above, base]).rstrip(".")
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno


def within(name: str, allowed: set[str]) -> bool:
    return any(name == part or name.startswith(part + ".") for part in allowed)


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_imports_point_down(name, path):
    layer = name.split(".")[0]
    if layer in FREE:
        return
    if name.startswith("sampling.engines"):
        layer = "sampling.engines"
    assert layer in MAY_IMPORT, f"say in this file whom musegen/{layer} may import"
    for target, line in imports(path, name):
        if not target.startswith("musegen."):
            continue
        below = target.removeprefix("musegen.")
        allowed = MAY_IMPORT[layer]
        # `from musegen.models import base` and `from musegen import errors` are spelled downwards
        assert within(below, allowed), f"{path.relative_to(ROOT)}:{line} imports {target}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_only_the_api_sees_the_registry(name, path):
    readers = {"api", "bar_model", "image_model", "model", "picture_report", "pictures"}
    readers |= {"models.registry", "models", "styling", "design_space"}
    if name in readers or name.startswith("cli."):
        return
    for target, line in imports(path, name):
        assert not target.startswith("musegen.models.registry"), f"{path}:{line}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_outside_libraries_have_one_place(name, path):
    for target, line in imports(path, name):
        library = target.split(".")[0]
        if library == "musegen" or library in sys.stdlib_module_names or library == "numpy":
            continue
        assert library in OUTSIDE, f"{path.relative_to(ROOT)}:{line}: {library} is not ours to use"
        assert within(name, OUTSIDE[library]), f"{path.relative_to(ROOT)}:{line} imports {library}"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_modules_can_be_read_in_one_sitting(name, path):
    assert len(path.read_text(encoding="utf-8").splitlines()) < 500, "split it"
    assert path.stem not in {"utils", "util", "common", "helpers", "misc"}, "name it by its noun"


@pytest.mark.parametrize(("name", "path"), MODULES, ids=IDS)
def test_every_module_says_what_it_is_for(name, path):
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def loaded_by(code: str, *names: str) -> list[str]:
    """Which of these modules a fresh interpreter has loaded after running `code`."""
    script = (
        f"{code}\nimport json, sys\nprint(json.dumps([n for n in {names!r} if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_musegen_loads_nothing():
    assert loaded_by("import musegen, musegen.errors, musegen.assets", *HEAVY, "numpy") == []


def test_help_loads_nothing_heavy():
    code = "from musegen.cli.main import run\nassert run(['--help']) == 0"
    assert loaded_by(code, *HEAVY, "numpy") == []


def test_verbs_import_nothing_heavy_at_their_top():
    verbs = [path.stem for path in (ROOT / "cli").glob("*.py") if path.stem != "__init__"]
    code = "\n".join(f"import musegen.cli.{verb}" for verb in verbs)
    assert loaded_by(code, *HEAVY, "numpy") == []


def test_composing_loads_neither_torch_nor_miditok():
    code = "import musegen\nmusegen.compose(bars=1, instruments=['piano', 'drums'], random_seed=1)"
    unwanted = ("torch", "miditok", "symusic", "music21", "pretty_midi", "transformers")
    assert loaded_by(code, *unwanted) == []
    # The graphs are kept: what builds them is not needed again.
    assert loaded_by(code, *unwanted, "onnx", "onnxruntime") == ["onnxruntime"]


@pytest.mark.parametrize("folder", ["music", "tokens", "data"])
def test_no_torch_below_the_models(folder):
    names = [name for name, _ in MODULES if name.split(".")[0] == folder]
    names = [name for name in names if name != "tokens.midi_tokenizer"]
    code = "\n".join(f"import musegen.{name}" for name in names)
    assert loaded_by(code, "torch", "miditok", "music21", "pretty_midi", "transformers") == []


def test_training_needs_few_libraries():
    """Training from shards runs where only torch, numpy, safetensors, typer and rich are."""
    names = [name for name, _ in MODULES if name.split(".")[0] in {"training", "models"}]
    names += ["data.shards", "data.batches", "data.bar_batches", "data.sources"]
    names += ["tokens.tokenizer", "tokens.events"]
    names = [name for name in names if name in IDS]
    code = "\n".join(f"import musegen.{name}" for name in names)
    unwanted = ("miditok", "symusic", "music21", "pretty_midi", "mido", "transformers", "pydantic")
    assert loaded_by(code, *unwanted) == []


def test_data_folders_hold_data_only():
    """An `__init__.py` in them would hide the packages that MidiTok and Hugging Face import."""
    for folder, suffixes in (("tokenizers", {".json"}), ("datasets", {".toml"})):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file():
                assert path.suffix in suffixes, f"{path}: {folder}/ holds {suffixes} only"


def test_public_names_exist():
    assert len(musegen.__all__) == len(set(musegen.__all__))
    for name in musegen.__all__:
        assert getattr(musegen, name) is not None
        assert name in dir(musegen)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = musegen.nothing


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_packages_are_those_of_the_tree():
    listed = project()["tool"]["setuptools"]["packages"]
    found = {"musegen", "musegen.cli", "musegen.tokenizers", "musegen.datasets"}
    for path in (ROOT / "musegen").rglob("*.py"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} has no __init__.py"
        found.add(".".join(path.parent.relative_to(ROOT).parts))
    assert sorted(listed) == sorted(found)
    assert not list((ROOT / "cli").glob("*/*.py")), "cli/ is one folder"


def test_versions_agree():
    assert project()["project"]["version"] == musegen.__version__
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {musegen.__version__}" in changes


def test_what_is_required_is_pinned():
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = {line.split("==")[0].lower() for line in pins.splitlines() if "==" in line}
    settings = project()
    needed = list(settings["project"]["dependencies"])
    for extra in settings["project"]["optional-dependencies"].values():
        needed += [one for one in extra if not one.startswith("musegen[")]
    for requirement in needed:
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        assert name and name[0].lower() in pinned, f"pin {requirement} in constraints.txt"
    assert "torch==2.13.0" in pins
    assert "http" not in pins.replace("httpx", "").replace("httpcore", ""), "no address of an index"


def tree_of_readme() -> set[str]:
    """The files that README's tree lists: an entry a line, two spaces a level."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = text.split("## The tree", 1)[1].split("```")[1]
    listed, stack = set(), []
    for line in block.splitlines()[1:]:
        entry = line.split()[0] if line.strip() else ""
        if not entry:
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        stack = [*stack[:depth], entry.rstrip("/")]
        listed.add("/".join(stack))
    return listed


def test_readme_lists_every_module():
    listed = tree_of_readme()
    there = {
        path.relative_to(ROOT).as_posix()
        for folder in ("musegen", "cli", "benchmarks", "notebooks")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".ipynb"}
        and path.name != "__init__.py"
        and ".ipynb_checkpoints" not in path.parts
    }
    assert sorted(there - listed) == [], "README's tree lacks these"
    missing = [entry for entry in listed if not (ROOT / entry).exists()]
    assert missing == [], "README's tree lists what is not there"
