"""Corpora: which files there are, which belong together, and how each becomes a score.

A corpus is a card with a folder, or a folder of anyone's MIDI without a card. `find_corpora` turns
what a user typed into a list of them (a mix gives several); `read_item` reads one file.
"""

from __future__ import annotations

import fnmatch
import functools
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from musegen.data.cards import Augment, Card, SplitRule, card_names, load_card
from musegen.data.listing import Made, Names, walk
from musegen.errors import DataError, MidiError, MusegenError
from musegen.music.analysis import estimate_beats
from musegen.music.score import Meter, Score, Track, note_array

DATA_VARIABLE = "MUSEGEN_DATA"
"""Names a folder that holds each corpus in a folder of the card's name."""

MIDI_SUFFIXES = (".mid", ".midi")
NOTATION_SUFFIXES = (".musicxml", ".mxl", ".xml")

FOLDER_SPLIT = SplitRule(train=0.9, valid=0.1, test=0.0)
"""Of a folder without a card."""

MAX_FILE_BYTES = 64 * 2**20
"""Larger files are skipped: no piece of music needs so much."""


@dataclass(frozen=True)
class Item:
    """One piece to read: a file, or one entry of a file that holds many."""

    path: Path
    name: str
    """Path below the corpus's folder, no suffix, `/` between folders."""
    corpus: str
    format: str
    group: str
    style: str
    split: str = ""
    """Fixed by the corpus; empty where the group's hash decides."""
    entry: str = ""
    """Which entry of the file."""
    drum_map: tuple[tuple[int, int], ...] = ()
    """Drum pitches to change: (from, to)."""


@dataclass(frozen=True)
class Corpus:
    """A list of items and what holds for all of them."""

    name: str
    items: Sequence[Item]
    """In the order of their paths; made when asked for."""
    split: SplitRule = FOLDER_SPLIT
    augment: Augment = field(default_factory=Augment)
    weight: float = 1.0
    card: Card | None = None
    notes: tuple[str, ...] = ()
    """What the user should know: a checksum that differs, fewer files than the card counts."""


@dataclass(frozen=True)
class Collection:
    """What is built into one set of shards."""

    name: str
    corpora: tuple[Corpus, ...]
    held_out: Corpus | None = None
    """A benchmark's pieces; what resembles them stays out."""
    notes: tuple[str, ...] = ()


def find_corpora(name: str, source: Path | None = None) -> Collection:
    """A card's name or a folder, as what to build.

    `source` is where a card's files lie: the corpus's folder itself, or a folder that holds one of
    the card's name (always the latter for a mix). By default the environment's MUSEGEN_DATA.

    Raises:
        DataError: no such card or folder, the files are not there, or there is no music in them.
    """
    if not name:  # which a path would take for the current folder
        raise DataError("the name of the data is empty; give a card's name or a folder")
    folder = Path(name).expanduser()
    if name in card_names():
        card = load_card(name)
    elif folder.is_dir():
        return Collection(_as_text(folder.resolve().name), (_folder_corpus(folder),))
    elif folder.exists():
        raise DataError(f"{name} is a file; give a folder of MIDI files, or a card's name")
    elif os.sep in name or name.startswith("."):
        raise DataError(f"there is no folder {name}")
    else:
        card = load_card(name)  # raises with the nearest name
    if not card.is_mix:
        return Collection(card.name, (_card_corpus(card, source, 1.0),))
    corpora, notes = [], []
    for member in card.members:
        corpora.append(_card_corpus(load_card(member.card), source, member.weight, in_mix=True))
    held_out = None
    if card.exclude_like is not None:
        try:
            whole = _card_corpus(load_card(card.exclude_like.card), source, 1.0, in_mix=True)
            kept = tuple(i for i in whole.items if i.split == card.exclude_like.split)
            held_out = Corpus(whole.name, kept, card=whole.card)
        except DataError:
            notes.append(
                f"{card.exclude_like.card} is not beside the other corpora: "
                f"nothing was left out for resembling its {card.exclude_like.split} pieces"
            )
    return Collection(card.name, tuple(corpora), held_out, tuple(notes))


def _root_of(card: Card, source: Path | None, in_mix: bool) -> Path:
    if card.format == "music21":
        return _music21_folder()
    if source is None:
        variable = os.environ.get(DATA_VARIABLE)
        if not variable:
            raise DataError(
                f"where are the files of {card.name}? Give --source DIR or set {DATA_VARIABLE}; "
                f"`musegen data info {card.name}` says how to get them"
            )
        source = Path(variable)
    source = source.expanduser()
    inner = source / card.name
    if inner.is_dir():
        return inner
    if in_mix or not source.is_dir():
        raise DataError(
            f"there is no folder {inner if source.is_dir() else source}; "
            f"`musegen data info {card.name}` says how to get the files"
        )
    return source


def _music21_folder() -> Path:
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.origin:
        raise DataError("the scores of music21 are not there: `pip install music21`")
    return Path(spec.origin).parent / "corpus"


def _matches(relative: str, patterns: Sequence[str]) -> bool:
    """Whether a relative POSIX path matches one of the globs, whatever the case."""
    relative = relative.lower()
    for pattern in patterns:
        pattern = pattern.lower()
        if fnmatch.fnmatchcase(relative, pattern):
            return True
        if pattern.startswith("**/") and fnmatch.fnmatchcase(relative, pattern[3:]):
            return True
    return False


def _folder_corpus(folder: Path) -> Corpus:
    suffixes: tuple[str, ...] = MIDI_SUFFIXES
    if importlib.util.find_spec("music21") is not None:
        suffixes += NOTATION_SUFFIXES
    corpus = _as_text(folder.resolve().name)

    def item(relative: str) -> Item:
        path = Path(folder, relative)
        name = _as_text(PurePosixPath(relative).with_suffix("").as_posix())
        kind = "midi" if path.suffix.lower() in MIDI_SUFFIXES else "musicxml"
        return Item(path, name, corpus, kind, name, "")

    names = Names(n for n in walk(folder) if PurePosixPath(n).suffix.lower() in suffixes)
    if not names:
        raise DataError(
            f"{folder} holds no music (looked for {', '.join('*' + s for s in suffixes)} in it and "
            "below it)"
        )
    return Corpus(corpus, Made(names, item))


def _as_text(name: str) -> str:
    """A name as text that any file can hold, also where it is not UTF-8 on the disk."""
    return name.encode("utf-8", "backslashreplace").decode()


def _card_corpus(card: Card, source: Path | None, weight: float, in_mix: bool = False) -> Corpus:
    root = _root_of(card, source, in_mix)
    names = Names(
        name
        for name in walk(root)
        if _matches(name, card.layout) and not _matches(name, card.exclude)
    )
    if not names:
        raise DataError(
            f"{root} holds no files of {card.name} (looked for {', '.join(card.layout)}); "
            f"`musegen data info {card.name}` says how to get them"
        )
    style = " ".join(card.style)
    drum_map = tuple(sorted((int(old), new) for old, new in card.drum_map.items()))

    def item(relative: str) -> Item:
        name = _as_text(PurePosixPath(relative).with_suffix("").as_posix())
        group = card.group_of(name)
        words = card.group_styles.get(group, style)
        path = Path(root, relative)
        return Item(path, name, card.name, card.format, group, words, drum_map=drum_map)

    items: Sequence[Item] = Made(names, item)
    if card.format == "jsb-json":
        items = [one for name in names for one in _jsb_items(Path(root, name), card, style)]
    notes = []
    if card.files and len(names) != card.files:
        notes.append(f"{card.name}: {len(names)} files here, {card.files} by the card")
    elif card.files_sha256 and _sum_of(root, names) != card.files_sha256:
        notes.append(f"{card.name}: not the files of the card's checksum (another conversion?)")
    return Corpus(card.name, items, card.split, card.augment, weight, card, tuple(notes))


def corpus_sha256(root: Path, paths: Sequence[Path]) -> str:
    """One checksum over many files: sha256 of the lines `sha256  relative/path`, sorted by path."""
    return _sum_of(root, sorted(path.relative_to(root).as_posix() for path in paths))


def _sum_of(root: Path, names: Iterable[str]) -> str:
    whole = hashlib.sha256()
    for name in names:
        path = Path(root, name)
        try:
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"{path} cannot be read: {error.strerror or error}; see who may read it, or "
                "move it away"
            ) from None
        whole.update(f"{digest}  {name}\n".encode("utf-8", "surrogateescape"))
    return whole.hexdigest()


def read_item(item: Item) -> tuple[Score, tuple[str, ...]]:
    """An item's score, and what reading it dropped or repaired.

    Raises:
        MidiError: it cannot be read.
    """
    if item.format == "jsb-json":
        return _jsb_score(item), ()
    try:
        if item.path.stat().st_size > MAX_FILE_BYTES:
            raise MidiError(f"{item.path} is larger than {MAX_FILE_BYTES >> 20} MB")
    except OSError as error:
        raise MidiError(f"{item.path} cannot be read: {error}") from None
    if item.format == "midi" and item.path.suffix.lower() in MIDI_SUFFIXES:
        from musegen.music.midi import read_midi

        score, report = read_midi(item.path)
        repairs = report.lines()
        beats = None if report.has_meter else estimate_beats(score)
        if beats is not None:
            score = score.replace(meters=(Meter(0, beats, 4),))
            repairs += (f"no meter in the file: {beats}/4 by its onsets",)
        elif not report.has_meter:
            repairs += ("no meter in the file: read as 4/4",)
        return _with_drums(score, item.drum_map), repairs
    try:
        from musegen.music.export import read_musicxml
    except ImportError as error:
        raise MidiError(f"{item.path}: reading notation needs music21: {error}") from None
    return read_musicxml(item.path), ()


def _with_drums(score: Score, drum_map: Sequence[tuple[int, int]]) -> Score:
    """The score with drum pitches changed."""
    if not drum_map:
        return score
    table = np.arange(256, dtype=np.uint8)
    for old, new in drum_map:
        table[old] = new
    tracks = []
    for track in score.tracks:
        if track.is_drum:
            notes = track.notes.copy()
            notes["pitch"] = table[notes["pitch"]]
            track = replace(track, notes=notes)
        tracks.append(track)
    return score.replace(tracks=tuple(tracks))


# --- The JSB chorales as JSON ---------------------------------------------------------------------
# {"train": [piece, ...], ...}; a piece is a list of 16th steps, each the sounding pitches, highest
# first (czhuang/JSB-Chorales-dataset). Held and repeated notes are not told apart: equal pitches
# in a row are one note here.

_JSB_VOICES = ("Soprano", "Alto", "Tenor", "Bass")
_STEP_TICK = 120  # a 16th at 480 ticks a quarter note


@functools.lru_cache(maxsize=2)
def _jsb_load(path: Path) -> dict[str, list]:
    try:
        data = json.loads(path.read_text("utf-8"))
        if not all(isinstance(pieces, list) for pieces in data.values()):
            raise ValueError("no lists of pieces")
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path} cannot be read as chorales: {error}") from None
    return data


def _jsb_items(path: Path, card: Card, style: str) -> list[Item]:
    items = []
    for split, pieces in sorted(_jsb_load(path).items()):
        for index in range(len(pieces)):
            name = f"{path.stem}/{split}/{index:03d}"
            items.append(
                Item(path, name, card.name, card.format, name, style, split, f"{split}/{index}")
            )
    return items


def _jsb_score(item: Item) -> Score:
    split, _, index = item.entry.partition("/")
    try:
        steps = _jsb_load(item.path)[split][int(index)]
        pitches = np.zeros((len(steps), len(_JSB_VOICES)), np.int64)
        for row, step in zip(pitches, steps, strict=True):
            sounding = [int(pitch) for pitch in step if 0 < pitch < 128][: len(_JSB_VOICES)]
            row[: len(sounding)] = sounding
    except (MusegenError, LookupError, TypeError, ValueError) as error:
        raise MidiError(f"{item.path}: {item.entry} is no chorale: {error}") from None
    tracks = []
    for voice, name in enumerate(_JSB_VOICES):
        line = pitches[:, voice]
        starts = np.flatnonzero(np.diff(line, prepend=-1))
        ends = np.append(starts[1:], len(line))
        notes = [
            (int(start) * _STEP_TICK, int(end - start) * _STEP_TICK, int(line[start]), 80)
            for start, end in zip(starts, ends, strict=True)
            if line[start]
        ]
        tracks.append(Track(notes=note_array(notes), program=52, name=name))
    return Score(ppq=480, tracks=tuple(tracks), title=item.name)
