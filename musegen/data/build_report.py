"""What a build did: which files, pieces and notes, what was left out and why."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musegen.data.shards import REPORT_FILE


@dataclass(frozen=True)
class BuildReport:
    """What a build did; `to_dict` is what `build.json` holds."""

    name: str
    folder: Path
    tokenizer: str
    may_ship: bool
    corpora: dict[str, dict[str, Any]]
    """Of each: files, pieces, notes, rows, skipped, duplicates, resembling, and each split's
    pieces, notes and rows."""
    skipped: tuple[dict[str, str], ...]
    duplicates: tuple[dict[str, str], ...]
    resembling: tuple[dict[str, str], ...]
    versions: int
    """Pairs of near-duplicates that were kept in one split."""
    largest_group: int
    """Pieces in the largest group that was kept together."""
    notes_merged: int
    notes_dropped: int
    inputs: str = ""
    """A hash of the files, the card and the tokenizer."""
    messages: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def pieces(self) -> int:
        return sum(facts["pieces"] for facts in self.corpora.values())

    @property
    def notes(self) -> int:
        return sum(facts["notes"] for facts in self.corpora.values())

    @property
    def rows(self) -> int:
        return sum(facts["rows"] for facts in self.corpora.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON types; without the time and the place, so that equal builds are equal bytes."""
        names = ["name", "tokenizer", "may_ship", "pieces", "notes", "rows", "corpora"]
        names += ["versions", "largest_group", "notes_merged", "notes_dropped", "inputs"]
        report = {name: getattr(self, name) for name in names}
        for name in ("skipped", "duplicates", "resembling", "messages"):
            report[name] = list(getattr(self, name))
        return report


def save_report(report: BuildReport, folder: Path) -> None:
    """Writes `build.json`."""
    text = json.dumps(report.to_dict(), indent=1, ensure_ascii=False) + "\n"
    # A reason may hold a file name that is not UTF-8: it becomes an escape of JSON.
    (folder / REPORT_FILE).write_text(text, "utf-8", "backslashreplace")
