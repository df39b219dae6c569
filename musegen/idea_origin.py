"""Where a file of bars came from: as `musegen.provenance`, for the verbs over bars.

The text is `musegen ` and a JSON object on one line, in which `verb` says what made the file.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musegen.errors import MidiError
from musegen.music.score import Score, Text
from musegen.provenance import LARGEST, PREFIX, Provenance, beside, file_sha256

__all__ = ["IdeaOrigin", "named_files", "origin_of"]

OPTIONS: dict[str, dict[str, tuple[type, ...]]] = {
    "interpolate": {"bars_a": (str,), "bars_b": (str,), "steps": (int,)},
    "vary": {"bars": (str,), "amount": (int, float)},
    "morph": {"bars": (str,)} | dict.fromkeys(("density", "rhythm", "polyphony"), (int, float)),
    "average": {"bars": (list,)},
}
"""By verb: what its options are in JSON. All but `morph` have `temperature` too."""


@dataclass(frozen=True)
class IdeaOrigin:
    """All that decides the bytes of a file that a verb over bars wrote."""

    version: str
    """Of musegen."""
    verb: str
    """`interpolate`, `vary`, `morph` or `average`."""
    model: str
    """Its name, or that of its folder."""
    weights: str
    """sha256 of model.safetensors."""
    random_seed: int = 0
    step: int = 0
    """Which of the pieces of the run it is, from 0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments that are not the defaults."""
    sources: tuple[tuple[str, str], ...] = ()
    """Name and sha256 of each file that was given; empty where it was no file."""

    def told(self, score: Score) -> Score:
        """The score with this text in it."""
        text = PREFIX + json.dumps(asdict(self), sort_keys=True, allow_nan=False)
        return score.replace(comments=(*score.comments, Text(0, text)))

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> IdeaOrigin:
        """From the JSON object. Raises ValueError, TypeError, KeyError: not in our words."""
        kinds = {"version": str, "verb": str, "model": str, "weights": str, "random_seed": int}
        kinds |= {"step": int, "options": dict, "sources": list}
        if set(facts) != set(kinds) or any(type(facts[k]) is not kinds[k] for k in kinds):
            raise ValueError("fields that we do not write")
        known = OPTIONS[facts["verb"]]
        if facts["verb"] != "morph":
            known = {**known, "temperature": (int, float)}
        for name, value in facts["options"].items():
            fits = type(value) in known[name]
            if isinstance(value, list):
                fits = fits and all(isinstance(one, str) for one in value)
            elif isinstance(value, int | float):
                fits = fits and abs(value) < LARGEST
            if not fits:
                raise ValueError(f"a value that {name} has not")
        sources = tuple((str(name), str(digest)) for name, digest in facts["sources"])
        if any("/" in name for name in (facts["model"], *dict(sources))):
            raise ValueError("names that we do not write")
        if not (0 <= facts["random_seed"] < LARGEST and 0 <= facts["step"] < LARGEST):
            raise ValueError("numbers that we do not write")
        return cls(**{**facts, "sources": sources})

    def find_sources(self, folder: Path) -> list[Path]:
        """The files that were given, by name in a folder or in the working one.

        Raises MidiError where one is not found, has changed, or was no file.
        """
        found = []
        for name, digest in self.sources:
            if not digest:
                raise MidiError("a source was no file: it cannot be made again from the file")
            found.append(beside(name, digest, folder))
        return found

    def command(self) -> str:
        """The command line that makes the file again, given the sources and the model."""
        words = ["musegen", self.verb, *(name or "FILE.mid" for name, _ in self.sources)]
        for key, value in self.options.items():
            name = {"rhythm": "rhythm-intensity"}.get(key, key.replace("_", "-"))
            for one in value if isinstance(value, list) else [value]:
                words += [f"--{name}", str(one)]
        if self.verb == "vary":
            words += ["--num", str(self.step + 1)]
        words += ["--model", self.model]
        if self.verb != "morph":
            words += ["--random-seed", str(self.random_seed)]
        return shlex.join(words)


def named_files(sources: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Name and sha256 of each source that is a file; empty texts for the others."""
    return tuple(
        (os.path.basename(source), file_sha256(Path(source)))
        if isinstance(source, str | os.PathLike)
        else ("", "")
        for source in sources
    )


def origin_of(score: Score, name: str = "the file") -> Provenance | IdeaOrigin:
    """What a score says of itself, whichever verb wrote it.

    Raises:
        MidiError: it says nothing, or not in our words.
    """
    texts = [each.text for each in score.comments if each.text.startswith(PREFIX)]
    try:
        facts = json.loads(texts[-1].removeprefix(PREFIX)) if texts else None
        if isinstance(facts, dict) and "verb" in facts:
            return IdeaOrigin.read(facts)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise MidiError(f"{name}: its text on how it was made is damaged ({error})") from None
    return Provenance.of(score, name)
