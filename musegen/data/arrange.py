"""Shards with arrangements beside the pieces: what `musegen data arrange` does.

Tunes, chords and drumming are taken from the `train` pieces of the shards alone, and arrangements
are `train` pieces: nothing that is held out comes near them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from musegen.data.arranger import Drumming, arranged
from musegen.data.band_styles import STYLES, Style
from musegen.data.batches import PIECE_CAP
from musegen.data.lead_sheets import BAR, UNIT, LeadSheet, lead_sheet
from musegen.data.shards import TOKENIZER_FILE, CorpusFacts, ShardSet, ShardWriter
from musegen.errors import DataError, OutputError, UsageError
from musegen.music.score import Score
from musegen.tokens.tokenizer import Tokenizer, load_tokenizer

__all__ = ["ARRANGED", "Arrangements", "arrange", "with_arrangements"]

ARRANGED = "arranged"
"""The corpus that arrangements are in."""

TUNES = ("openhymnal", "openscore_lieder", "mutopia")
"""Corpora whose pieces have a tune with chords below."""

DRUMS = "groove"
"""The corpus of human drumming; its names say style, tempo, whether a beat or a fill, and meter."""

_PERFORMANCE = re.compile(r"_\d+_([a-z-]+)_(\d+)_beat_4-4$")

FEWEST_BARS = 8
"""Of a performance: shorter ones would be one loop."""


FEWEST_STROKES = 4
"""Of a bar: with fewer the drummer begins or ends."""


@dataclass(frozen=True)
class Arrangements:
    """What was made."""

    folder: str
    pieces: int
    notes: int
    by_style: dict[str, int]
    tunes: int
    performances: int
    weight: float
    """Of the new corpus: so that it has the share of the draws that was asked for."""


def arrange(
    shards: str | Path,
    out: str | Path,
    *,
    num: int = 800,
    share: float = 0.25,
    styles: Iterable[str] = (),
    seed: int = 0,
    midi: str | Path | None = None,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> Arrangements:
    """Copies shards and adds arrangements of their tunes.

    Args:
        shards: a folder of `musegen data build`.
        out: the new folder; it must not exist.
        num: how many arrangements; tunes, styles and performances come in turn.
        share: of the draws in training; at most a half, for they are not real music.
        styles: names of `STYLES`; all of them when empty.
        seed: of everything random; the same seed gives the same bytes.
        midi: also write the arrangements here, to listen to.
        on_progress: called as `on_progress(done, num, style)`.

    Raises:
        UsageError: an unknown style, a share above a half, shards that hold arrangements already.
        DataError: no shards, or none with tunes, or with drumming of a style.
    """
    source, out = ShardSet.open(shards), Path(out)
    chosen = list(dict.fromkeys(styles)) or list(STYLES)
    for name in chosen:
        if name not in STYLES:
            raise UsageError(f"style {name!r}: there are {', '.join(STYLES)}")
    if num < 1 or not 0 < share <= 0.5:
        raise UsageError(f"num {num}, share {share:g}: at least 1, and above 0 to a half")
    if ARRANGED in source.corpora:
        raise UsageError(f"{source.folder} holds arrangements already; begin with shards without")
    if out.exists():
        raise UsageError(f"{out} exists; choose another folder, or remove it")
    tokenizer = load_tokenizer(source.tokenizer_file())
    sheets = _sheets(source, tokenizer)
    drumming = _drumming(source, tokenizer)
    fitting = {name: _of_style(drumming, STYLES[name]) for name in chosen}
    for name, found in fitting.items():
        if not found:
            raise DataError(
                f"{source.folder} has no drumming in 4/4 for {name} (of {DRUMS}, with a name that "
                f"says {' or '.join(STYLES[name].drums)}); leave {name} out with --styles"
            )
    if midi is not None:
        Path(midi).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    order = np.concatenate([rng.permutation(len(sheets)) for _ in range(-(-num // len(sheets)))])
    counts, notes, rows_total = dict.fromkeys(chosen, 0), 0, 0
    folder = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True)
        writer = ShardWriter(folder, len(source.field_names))
        try:
            real = _copy(source, writer)
            for number in range(num):
                name = chosen[number % len(chosen)]
                sheet = sheets[int(order[number])]
                own = np.random.default_rng([seed, number])
                played = fitting[name][int(own.integers(len(fitting[name])))]
                score = arranged(sheet, STYLES[name], played, own)
                encoding = tokenizer.encode(score)
                title = f"{name}_{number:05d}"
                if midi is not None:
                    from musegen.music.writer import write_midi  # shards alone need no mido

                    write_midi(score, Path(midi) / f"{title}.mid")
                writer.add(
                    encoding.rows,
                    name=f"{title}/{sheet.name}/{played.name}",
                    corpus=ARRANGED,
                    style=STYLES[name].word,
                    notes=tokenizer.num_notes(encoding.rows),
                    group=f"{ARRANGED}/{sheet.name}",
                    split="train",
                    key="",
                )
                counts[name] += 1
                notes += tokenizer.num_notes(encoding.rows)
                rows_total += min(len(encoding.rows), PIECE_CAP)
                if on_progress is not None:
                    on_progress(number + 1, num, name)
            weight = share / (1 - share) * real / rows_total
            writer.close(
                name=source.name,
                tokenizer=source.tokenizer_name,
                field_names=source.field_names,
                field_sizes=source.field_sizes,
                corpora={**source.corpora, ARRANGED: CorpusFacts(weight, programs=0.2)},
                may_ship=source.may_ship,
            )
        finally:
            writer.abandon()
        shutil.copyfile(source.tokenizer_file(), folder / TOKENIZER_FILE)
        folder.rename(out)
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Arrangements(str(out), num, notes, counts, len(sheets), len(drumming), round(weight, 4))


def with_arrangements(
    shards: ShardSet,
    folder: Path,
    num: int,
    share: float,
    seed: int,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> ShardSet:
    """The shards with so many arrangements, made in `folder` unless they are there.

    Raises what `arrange` does. Shards that hold arrangements come back as they are.
    """
    if not num or ARRANGED in shards.corpora:
        return shards
    if not folder.is_dir():
        arrange(shards.folder, folder, num=num, share=share, seed=seed, on_progress=on_progress)
    return ShardSet.open(folder)


def _copy(source: ShardSet, writer: ShardWriter) -> float:
    """Adds all pieces as they are; how much the `train` pieces weigh in the draws."""
    weighs = 0.0
    for piece in source.pieces:
        facts = {
            name: getattr(piece, name)
            for name in ("name", "corpus", "style", "notes", "group", "split", "key")
        }
        writer.add(source.rows(piece), **facts)
        if piece.split == "train":
            weight = source.corpora.get(piece.corpus, CorpusFacts()).weight
            weighs += min(piece.length, PIECE_CAP) * weight
    return weighs


def _sheets(source: ShardSet, tokenizer: Tokenizer) -> list[LeadSheet]:
    found = []
    for piece in source.split("train"):
        if piece.corpus in TUNES:
            sheet = lead_sheet(tokenizer.decode(source.rows(piece)), f"{piece.corpus}/{piece.name}")
            if sheet is not None:
                found.append(sheet)
    if not found:
        raise DataError(
            f"{source.folder} has no tunes in 4/4 with chords (hymns or songs: "
            f"{', '.join(TUNES)}); build the mix clean"
        )
    return found


def _drumming(source: ShardSet, tokenizer: Tokenizer) -> list[tuple[str, Drumming]]:
    """(style, performance) of those that are long enough."""
    found = []
    for piece in source.split("train"):
        match = _PERFORMANCE.search(piece.name) if piece.corpus == DRUMS else None
        if match is None:
            continue
        bars = _bars(tokenizer.decode(source.rows(piece)))
        if len(bars) >= FEWEST_BARS:
            found.append((match[1], Drumming(piece.name, float(match[2]), bars)))
    return found


def _bars(score: Score) -> tuple[np.ndarray, ...]:
    """The strokes of each bar that has some, (N, 4): place, duration (units), pitch, velocity."""
    notes = score.tracks[0].notes
    onset = np.round(notes["start_tick"] * UNIT / score.ppq).astype(np.int64)
    duration = np.maximum(np.round(notes["duration_tick"] * UNIT / score.ppq), 1).astype(np.int64)
    table = np.stack([onset % BAR, duration, notes["pitch"], notes["velocity"]], axis=1)
    bars = [table[onset // BAR == bar] for bar in range(int(onset.max(initial=0)) // BAR + 1)]
    return tuple(bar for bar in bars if len(bar) >= FEWEST_STROKES)


def _of_style(drumming: list[tuple[str, Drumming]], style: Style) -> list[Drumming]:
    return [played for name, played in drumming if name.startswith(style.drums)]
