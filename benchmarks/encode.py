"""Our encoder against MidiTok's, on the same files in one run: same ids, how many times as fast.

    python benchmarks/encode.py [--quick] [--data FOLDER_OF_MIDI]

What is timed, per file, the best of as many calls of each, file reading left out:

* whole: from a symusic `Score`, as read from a file, to ids. MidiTok: `tokenizer(score)`, which is
  its preprocessing, its tokens and its ids. Ours: `write_ids(Parts.from_symusic(score))`, which
  replaces all of that. The two goals are on this.
* behind the preprocessing: from the score that MidiTok has preprocessed to ids. MidiTok:
  `tokenizer.encode(score, no_preprocess_score=True)`. Ours: the same call as above, which quantises
  once more for nothing, so that the figure is on the low side.
* from a musegen `Score`: `tokenizer.encode(score)` of the preset, as building a corpus calls it,
  with the account of losses, against MidiTok's whole.

Large files have 5,000 notes or more, small ones 50 to 500. A ratio is the sum of MidiTok's times
over the sum of ours; the table has the median of the files' own ratios too. Without `--data`, or
where it holds no such files, generated scores stand in.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, best_of, report

from musegen.music.export import from_symusic
from musegen.tokens.midi_tokenizer import MidiTokenizer
from musegen.tokens.remi_encoder import Parts, write_ids
from musegen.tokens.tokenizer import load_tokenizer

LARGE, SMALL_LEAST, SMALL_MOST = 5_000, 50, 500
GOALS = {"large": 30.0, "small": 5.0, "ids_equal": 1.0}


def generated(notes: int, tracks: int, seed: int) -> Any:
    """A symusic score: chords and runs on a grid of 16ths and triplets, played a little off it."""
    import symusic

    rng = np.random.default_rng(seed)
    score: Any = symusic.Score(480)
    each = notes // tracks
    for tick in range(0, 480 * 4 * max(1, each // 8), 480 * 16):
        score.tempos.append(symusic.Tempo(time=tick, mspq=int(rng.integers(400_000, 700_000))))
    score.time_signatures.append(symusic.TimeSignature(0, 4, 4))
    for index in range(tracks):
        track: Any = symusic.Track("", int(rng.integers(0, 128)), index == tracks - 1 > 0)
        step = rng.choice([0, 120, 160, 240, 480], each)
        start = np.maximum(np.cumsum(step) + rng.integers(-8, 9, each), 0)
        start.sort()
        track.notes = symusic.Note.from_numpy(
            time=start.astype(np.int32),
            duration=rng.choice([110, 160, 240, 480, 960], each).astype(np.int32),
            pitch=rng.integers(36, 96, each).astype(np.int8),
            velocity=rng.integers(30, 120, each).astype(np.int8),
        )
        score.tracks.append(track)
    return score


def size_of(score: Any) -> str | None:
    """`large`, `small`, or None for what is between."""
    notes = sum(len(track.notes) for track in score.tracks)
    if notes >= LARGE:
        return "large"
    return "small" if SMALL_LEAST <= notes <= SMALL_MOST else None


def readable(folder: Path) -> Iterator[Any]:
    """The files of a folder that symusic reads, in an order that is random but always the same."""
    import symusic

    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".mid", ".midi"))
    random.Random(0).shuffle(paths)
    for path in paths:
        try:
            yield symusic.Score(path)
        except (RuntimeError, ValueError, OSError):
            continue


def chosen(folder: Path | None, count: int) -> tuple[dict[str, list[Any]], str]:
    """Scores of each size, at most `count`, and where they come from."""
    found: dict[str, list[Any]] = {"large": [], "small": []}
    if folder is not None:
        for score in readable(folder):
            size = size_of(score)
            if size is not None and len(found[size]) < count:
                found[size].append(score)
            if all(len(scores) == count for scores in found.values()):
                break
    if all(found.values()):
        return found, str(folder)
    return {
        "large": [generated(8_000, 8, seed) for seed in range(count)],
        "small": [generated(200, 2, seed) for seed in range(count)],
    }, "generated scores"


def measure(tokenizer: MidiTokenizer, score: Any, repeats: int) -> dict[str, Any]:
    """Times of one file in seconds, and whether the ids are equal."""
    miditok, vocabulary = tokenizer.reference, tokenizer.vocabulary
    prepared = miditok.preprocess_score(score)
    own = from_symusic(score)
    ids = write_ids(Parts.from_symusic(score), vocabulary).ids.tolist()
    again = write_ids(Parts.from_symusic(prepared), vocabulary).ids.tolist()
    theirs = miditok(score).ids
    return {
        "notes": sum(len(track.notes) for track in score.tracks),
        "tokens": len(theirs),
        "equal": ids == theirs == again,
        "miditok": best_of(lambda: miditok(score), repeats),
        "ours": best_of(lambda: write_ids(Parts.from_symusic(score), vocabulary), repeats),
        "miditok_behind": best_of(
            lambda: miditok.encode(prepared, no_preprocess_score=True), repeats
        ),
        "ours_behind": best_of(
            lambda: write_ids(Parts.from_symusic(prepared), vocabulary), repeats
        ),
        "ours_score": best_of(lambda: tokenizer.encode(own), repeats),
    }


def main() -> bool:
    parser = arguments("Our encoder against MidiTok's.")
    options = parser.parse_args()
    tokenizer = load_tokenizer("remi")
    if not isinstance(tokenizer, MidiTokenizer):
        raise SystemExit("the preset remi is not a MidiTokenizer")
    count, repeats = (8, 2) if options.quick else (40, 3)
    scores, source = chosen(options.data, count)
    rows, ratios, equal = [], {}, True
    for size, group in scores.items():
        found = [measure(tokenizer, score, repeats) for score in group]
        equal = equal and all(item["equal"] for item in found)

        def ratio(theirs: str, ours: str, found: list[dict[str, Any]] = found) -> float:
            return sum(item[theirs] for item in found) / sum(item[ours] for item in found)

        ratios[size] = ratio("miditok", "ours")
        rows.append(
            {
                "files": size,
                "number": len(found),
                "notes": sum(item["notes"] for item in found),
                "tokens": sum(item["tokens"] for item in found),
                "miditok_ms": 1e3 * sum(item["miditok"] for item in found),
                "ours_ms": 1e3 * sum(item["ours"] for item in found),
                "whole": ratios[size],
                "median": statistics.median(i["miditok"] / i["ours"] for i in found),
                "behind_preprocessing": ratio("miditok_behind", "ours_behind"),
                "from_our_score": ratio("miditok", "ours_score"),
            }
        )
    print(f"{source}; times are sums over files, ratios are MidiTok's time over ours")
    ratios["ids_equal"] = float(equal)
    return report("encode", rows, ratios, GOALS)


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
