"""Where a file came from: a text in it that says how it was made, and how to make it again.

One text meta event at the beginning, `musegen ` and a JSON object on one line: version, model and
the hash of its weights, random seed, number of the sample, options that are not the defaults, name
and hash of the seed file. Paths of the user's machine are not in it. A file that was made from a
file of ours holds both texts; the last one is its own.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from musegen.errors import MidiError
from musegen.music.score import Score, Text

__all__ = ["LARGEST", "PREFIX", "Provenance", "beside", "file_sha256"]

PREFIX = "musegen "

OnProgress = Callable[[float, float | None, str], None]

_NOT_OPTIONS = {"seed", "model", "random_seed", "first_sample", "num", "device", "engine"}
_NOT_OPTIONS |= {"precision", "batch_size", "on_progress", "on_bar", "on_event"}
"""Arguments of `compose` that no file may set."""

_NUMBER, _TEXTS = (int, float), (list,)
_OPTION_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("bars", "seed_bars", "top_k"), (int,)),
    **dict.fromkeys(("temperature", "top_p", "min_p", "variation", "guidance"), _NUMBER),
    **dict.fromkeys(("time_signature", "key", "style"), (str,)),
    **dict.fromkeys(("strict_scale", "strict_chords"), (bool,)),
    **dict.fromkeys(("instruments", "fill", "add", "keep", "lock", "scale", "chords"), _TEXTS),
    **dict.fromkeys(("pitch_range", "max_polyphony", "grid", "first_pitch", "last_pitch"), _TEXTS),
    **dict.fromkeys(("density", "polyphony", "length", "register", "loudness", "like"), _TEXTS),
    "tempo": (*_NUMBER, str),
}
"""What an option is in JSON; lists are of texts. Later versions may know further options."""

LARGEST = 2**63
"""Numbers of ours are below it."""


def file_sha256(path: Path) -> str:
    """The hash of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def beside(name: str, sha256: str, folder: Path) -> Path:
    """The file of that name and hash, in a folder or in the working one.

    Raises MidiError where it is not found, or has changed.
    """
    there = [place for place in (folder / name, Path(name)) if place.is_file()]
    if not there:
        raise MidiError(f"{name}, which it was made from, is not found: put it beside it")
    same = same_file(there, sha256)
    if same is None:
        raise MidiError(f"{there[0]} has changed since the file was made")
    return same


def same_file(places: Sequence[Path], sha256: str) -> Path | None:
    """The first of these files with that hash; None where all are others."""
    return next((place for place in places if file_sha256(place) == sha256), None)


@dataclass(frozen=True)
class Provenance:
    """All that decides the bytes of a composed file."""

    version: str
    """Of musegen."""
    model: str
    """Its name, or that of its folder."""
    weights: str
    """sha256 of model.safetensors."""
    random_seed: int
    sample: int = 0
    """Which of the pieces of the run it is, from 0."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of `musegen.compose` that are not the defaults."""
    seed: str = ""
    """Name of the seed's file; empty from nothing, or where it was no file."""
    seed_sha256: str = ""
    """Of its bytes; empty from nothing."""
    likes: Mapping[str, str] = field(default_factory=dict)
    """Name and sha256 of each file whose bars it should be like."""
    device: str = "cpu"
    """Other devices than the CPU do not promise the same bytes."""
    engine: str = "torch"
    """What computed it. Files from before there was a choice do not say, nor does this one."""
    precision: str = "fp64"
    """In which numbers; likewise."""
    stopped_after: int | None = None
    """How many bars were finished when Ctrl-C ended it; None for a piece that was not ended."""

    def text(self) -> str:
        """The text of the meta event."""
        facts = {key: value for key, value in asdict(self).items() if value not in ("", {}, None)}
        if (self.engine, self.precision) == ("torch", "fp64"):
            facts = {k: value for k, value in facts.items() if k not in ("engine", "precision")}
        return PREFIX + json.dumps(facts, ensure_ascii=True, sort_keys=True, allow_nan=False)

    def told(self, score: Score) -> Score:
        """The score with this text in it."""
        return score.replace(comments=(*score.comments, Text(0, self.text())))

    @classmethod
    def of(cls, score: Score, name: str = "the file") -> Provenance:
        """What a score says of itself.

        Raises:
            MidiError: it says nothing, or not in our words.
        """
        texts = [comment.text for comment in score.comments if comment.text.startswith(PREFIX)]
        if not texts:
            raise MidiError(f"{name}: it does not say how it was made; musegen did not write it")
        try:
            facts = json.loads(texts[-1].removeprefix(PREFIX), parse_constant=_refuse)
            kinds = {"version": str, "model": str, "weights": str, "random_seed": int}
            kinds |= {"sample": int, "options": dict, "seed": str, "seed_sha256": str}
            kinds |= {"likes": dict, "device": str, "engine": str, "precision": str}
            kinds |= {"stopped_after": int}
            if set(facts) - set(kinds) or any(type(facts[k]) is not kinds[k] for k in facts):
                raise ValueError("fields that we do not write")
            origin = cls(**facts)
            if set(origin.options) & _NOT_OPTIONS or "/" in origin.model or "/" in origin.seed:
                raise ValueError("options that we do not write")
            if any("/" in name or type(one) is not str for name, one in origin.likes.items()):
                raise ValueError("names that we do not write")
            for option, value in origin.options.items():
                _check_option(option, value)
            if not (0 <= origin.random_seed < LARGEST and 0 <= origin.sample < LARGEST):
                raise ValueError("numbers that we do not write")
            if origin.stopped_after is not None and origin.stopped_after < 1:
                raise ValueError("numbers that we do not write")
            return origin
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise MidiError(f"{name}: its text on how it was made is damaged ({error})") from None

    def find_seed(self, folder: Path, named: Path | None = None) -> Path | None:
        """The seed's file: the one that is named, or of its name in a folder or the working one.

        None from nothing. Raises MidiError where it is not found, or is another.
        """
        if not self.seed_sha256:
            return None
        if named is None and not self.seed:
            raise MidiError("its seed was no file: name the file that it is in with --seed-midi")
        places = [named] if named is not None else [folder / self.seed, Path(self.seed)]
        there = [place for place in places if place.is_file()]
        if not there:
            raise MidiError(f"the seed {places[0].name} is not found: name it with --seed-midi")
        found = same_file(there, self.seed_sha256)
        if found is None:
            raise MidiError(f"{there[0]} has changed since the file was made: it is not its seed")
        return found

    def find_likes(self, folder: Path) -> dict[str, Any]:
        """The options, with each file of `like` where it is: in a folder, or the working one.

        Raises MidiError where one is not found, or has changed.
        """
        texts = []
        for text in self.options.get("like", ()):
            # The longest: a name may begin with another one and an @.
            name = max(
                (one for one in self.likes if text.startswith(f"{one}@")), key=len, default=""
            )
            if not name:
                raise MidiError(f"it does not say which file that of --like {text} was")
            texts.append(f"{beside(name, self.likes[name], folder)}{text.removeprefix(name)}")
        return dict(self.options) | ({"like": texts} if texts else {})

    def stopping(self, on_progress: OnProgress | None) -> OnProgress | None:
        """An `on_progress` for composing again: as Ctrl-C did, it ends a piece that was ended."""
        if self.stopped_after is None:
            return on_progress

        def report(done: float, total: float | None, text: str) -> None:
            if on_progress is not None:
                on_progress(done, total, text)
            if self.stopped_after is not None and done >= self.stopped_after:
                raise KeyboardInterrupt

        return report

    def command(self) -> str:
        """The command line that makes the file again, given the seed's file and the model.

        It makes the whole piece, also where Ctrl-C ended the file.
        """
        words = ["musegen", "compose"]
        if self.seed_sha256:
            words += ["--seed-midi", self.seed or "SEED.mid"]
        for key, value in self.options.items():
            option = "--" + key.replace("_", "-")
            values = value if isinstance(value, list) and key != "instruments" else [value]
            for one in values:
                if one is True:
                    words.append(option)
                elif isinstance(one, list):
                    words += [option, ",".join(map(str, one))]
                else:
                    words += [option, str(one)]
        words += ["--model", self.model, "--random-seed", str(self.random_seed)]
        words += ["--engine", self.engine, "--precision", self.precision]
        if self.sample:
            words += ["--first-sample", str(self.sample)]
        return shlex.join(words)


def _check_option(name: str, value: Any) -> None:
    """Raises ValueError for a value that we do not write."""
    kinds = _OPTION_KINDS.get(name, (bool, int, float, str, list))
    fits = type(value) in kinds
    if isinstance(value, list):
        fits = fits and all(isinstance(one, str) for one in value)
    elif isinstance(value, int | float):
        fits = fits and abs(value) < LARGEST  # which infinity is not
    if not fits:
        raise ValueError(f"option {name}: {_shortened(value)} is no value of it")


def _shortened(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _refuse(constant: str) -> None:
    """For what Python reads as JSON, though it is none: NaN, Infinity."""
    raise ValueError(f"{constant} is no number")
