"""README's Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_there_is_some():
    assert BLOCKS


def test_python_in_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README.md, block {number}", "exec"), names)
    assert list(tmp_path.glob("*.mid"))
    assert "notes" in capsys.readouterr().out


def test_links_lead_somewhere():
    for source in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)\)", source.read_text(encoding="utf-8")):
            assert (source.parent / link).exists(), f"{source.name} links to {link}"


def test_every_verb_is_in_the_readme_and_the_manual():
    from musegen.cli.main import VERBS

    manual = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"`musegen {verb}" in TEXT
        assert f"\n## {verb}\n" in manual
