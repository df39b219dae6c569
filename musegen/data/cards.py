"""Cards: what a corpus holds, who allows what, where to get it, how it is split.

A card is one TOML file in `datasets/` (installed as `musegen.datasets`). Two kinds:

- a **corpus** card: one folder of files, its licence, and the rule that says which files belong
  together (the same opus, composer or song), so that a split never tears them apart;
- a **mix** card: several corpora with weights, read from folders beside each other.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from musegen import assets
from musegen.errors import ConfigError

FORMATS = ("midi", "musicxml", "jsb-json", "music21")
"""How the files of a corpus are read (musegen/data/corpus.py)."""

SPLITS = ("train", "valid", "test")

SPLIT_RULES = ("shares", "file")
"""`shares`: by a hash of the group; `file`: the files themselves say it (jsb-json)."""


@dataclass(frozen=True)
class SplitRule:
    """How the pieces are shared out."""

    train: float = 0.90
    valid: float = 0.05
    test: float = 0.05
    rule: str = "shares"

    def __post_init__(self) -> None:
        if self.rule not in SPLIT_RULES:
            raise ConfigError(
                f"split rule {self.rule!r} is unknown{_nearest(self.rule, SPLIT_RULES)}"
            )
        shares = (self.train, self.valid, self.test)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ConfigError(
                f"split shares {shares} must be at least 0 and add up to 1 (train, valid, test)"
            )


@dataclass(frozen=True)
class Augment:
    """What may be done to a piece at batch time without making it wrong."""

    transpose: tuple[int, int] = (-5, 6)
    """Semitones, lowest and highest; drawn uniformly. Drums never move."""
    tempo: tuple[float, float] = (0.9, 1.1)
    """Factors on the tempo, drawn log-uniformly."""
    velocity: int = 0
    """How much louder or softer (of 1 to 127) a piece may become, drawn uniformly."""
    drum_jitter: float = 0.0
    """Share of the drum strokes that are struck a little harder or softer."""
    programs: float = 0.0
    """Share of the pieces that get other instruments of the same kind: a choir for an organ."""

    def __post_init__(self) -> None:
        low, high = self.transpose
        if not -24 <= low <= 0 <= high <= 24:
            raise ConfigError(f"augment.transpose {[low, high]} must be [low, high] around 0")
        slow, fast = self.tempo
        if not 0.25 <= slow <= 1 <= fast <= 4:
            raise ConfigError(f"augment.tempo {[slow, fast]} must be [slow, fast] around 1.0")
        if not 0 <= self.velocity <= 64:
            raise ConfigError(f"augment.velocity {self.velocity} must be from 0 to 64")
        for name in ("drum_jitter", "programs"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"augment.{name} {getattr(self, name)} must be from 0 to 1")


@dataclass(frozen=True)
class Member:
    """A corpus of a mix."""

    card: str
    weight: float = 1.0
    """How often its pieces are drawn, against the other members, for the same number of rows."""

    def __post_init__(self) -> None:
        if not self.weight > 0:
            raise ConfigError(
                f"weight of member {self.card!r} is {self.weight}; it must be above 0"
            )


@dataclass(frozen=True)
class ExcludeLike:
    """Pieces of a mix that resemble a benchmark's held-out pieces are left out."""

    card: str
    split: str = "test"


@dataclass(frozen=True)
class Card:
    """One TOML card; `members` is empty for a corpus, filled for a mix."""

    name: str
    title: str
    description: str
    licence: str
    """SPDX expression where there is one, else a short name."""
    may_ship: bool
    """Whether weights trained on it may ship in the package."""
    licence_note: str = ""
    source: str = ""
    """The publisher's address."""
    commit: str = ""
    """The revision that the counts and the checksum are of."""
    get: str = ""
    """How a user fetches it, in commands or one sentence."""
    layout: tuple[str, ...] = ("**/*.mid", "**/*.midi")
    """Globs below the corpus's folder; matched whatever the case of the letters."""
    exclude: tuple[str, ...] = ()
    """Globs of files that are left out all the same; `licence_note` says why."""
    format: str = "midi"
    style: tuple[str, ...] = ()
    """Words for what it sounds like."""
    group_styles: dict[str, str] = field(default_factory=dict)
    """Other words for some groups, by group key."""
    group: str = ""
    """A regular expression searched in the file's name (path without suffix): its groups, joined,
    are the key of what belongs together. Without a match, or empty: the file stands alone."""
    drum_map: dict[str, int] = field(default_factory=dict)
    """Drum pitches that are not General MIDI's, and what they become."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Group keys that mean another group (misspelt or cut file names)."""
    meters: str = ""
    """What is known of meters, tempi and timing in the files."""
    split: SplitRule = SplitRule()
    augment: Augment = Augment()
    archive_sha256: dict[str, str] = field(default_factory=dict)
    """Checksums of the publisher's archives, by file name."""
    files: int = 0
    """How many files the checksum covers; 0 where none is known."""
    files_sha256: str = ""
    """Checksum over the corpus (`musegen.data.corpus.corpus_sha256`)."""
    members: tuple[Member, ...] = ()
    exclude_like: ExcludeLike | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", self.name):
            raise ConfigError(f"card name {self.name!r} must be lower-case letters, digits, _ or -")
        if self.format not in FORMATS:
            raise ConfigError(
                f"card {self.name}: format {self.format!r} is unknown"
                + _nearest(self.format, FORMATS)
            )
        try:
            re.compile(self.group)
        except re.error as error:
            raise ConfigError(
                f"card {self.name}: group is no regular expression: {error}"
            ) from None

    @property
    def is_mix(self) -> bool:
        return bool(self.members)

    def group_of(self, name: str) -> str:
        """The group key of a file's name (path below the corpus's folder, no suffix)."""
        match = re.search(self.group, name) if self.group else None
        found = [part for part in match.groups() if part] if match else []
        key = "/".join(found) if found else name
        return self.aliases.get(key, key)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `--json`."""
        return {f.name: _plain(getattr(self, f.name)) for f in fields(self)}


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _nearest(name: object, known: Any) -> str:
    close = difflib.get_close_matches(str(name), [str(one) for one in known], 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else f" (known: {', '.join(map(str, known))})"


_PITCHES = frozenset(str(pitch) for pitch in range(128))

_KINDS: dict[str, Any] = {
    "str": str,
    "bool": bool,
    "int": int,
    "float": (int, float),
    "dict[str, str]": dict,
    "dict[str, int]": dict,
}


def _build(kind: type, data: Any, where: str) -> Any:
    """A frozen dataclass from a TOML table; unknown keys and wrong types are ConfigErrors."""
    if not isinstance(data, dict):
        raise ConfigError(f"{where} must be a table")
    known = {f.name: f for f in fields(kind)}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}{_nearest(key, known)}")
        values[key] = _value(str(known[key].type), value, f"{where}: {key}")
    try:
        return kind(**values)
    except TypeError:
        missing = [name for name in _required(kind) if name not in values]
        raise ConfigError(f"{where}: missing {', '.join(missing)}") from None


def _required(kind: type) -> list[str]:
    return [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]


def _value(annotation: str, value: Any, where: str) -> Any:
    if annotation in _KINDS:
        wanted = _KINDS[annotation]
        if not isinstance(value, wanted) or (isinstance(value, bool) and annotation != "bool"):
            raise ConfigError(f"{where} is {value!r}; it must be of type {annotation}")
        if annotation == "float":
            return float(value)
        if annotation == "dict[str, str]" and not all(isinstance(v, str) for v in value.values()):
            raise ConfigError(f"{where} must hold strings")
        if annotation == "dict[str, int]":
            pitches = [key for key in value if key.isdigit()] + [str(v) for v in value.values()]
            if len(pitches) != 2 * len(value) or not all(p in _PITCHES for p in pitches):
                raise ConfigError(f"{where} must map pitches to pitches, 0 to 127")
        return value
    if annotation == "tuple[str, ...]":
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ConfigError(f"{where} is {value!r}; it must be a list of strings")
    if annotation in ("tuple[int, int]", "tuple[float, float]"):
        scalar = int if "int" in annotation else float
        if (
            isinstance(value, list)
            and len(value) == 2
            and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in value)
        ):
            return tuple(scalar(v) for v in value)
        raise ConfigError(f"{where} is {value!r}; it must be a list of two numbers")
    if annotation == "tuple[Member, ...]":
        if not isinstance(value, list):
            raise ConfigError(f"{where} must be [[members]] tables")
        return tuple(_build(Member, item, where) for item in value)
    nested = {"SplitRule": SplitRule, "Augment": Augment, "ExcludeLike | None": ExcludeLike}
    return _build(nested[annotation], value, where)


def card_from_dict(data: dict[str, Any], where: str = "card") -> Card:
    """A card from a parsed TOML table. Raises ConfigError with the nearest known key."""
    return _build(Card, data, where)


def read_card(path: Path) -> Card:
    """Reads one TOML file. Raises ConfigError when it is no card."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path.name} cannot be read as a data card: {error}") from None
    card = card_from_dict(data, path.name)
    if card.name != path.stem:
        raise ConfigError(f"{path.name}: name is {card.name!r}; it must be the file's name")
    return card


def card_names() -> list[str]:
    """The names of all cards, sorted."""
    return sorted(assets.cards())


def load_card(name: str) -> Card:
    """The card of that name. Raises DataError with the nearest name."""
    return read_card(assets.card_path(name))
