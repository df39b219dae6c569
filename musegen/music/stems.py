"""A score as stems: a score a track, for programs that take one instrument a file."""

from __future__ import annotations

import re
import unicodedata

from musegen.music.bars import barline_after
from musegen.music.instruments import program_name
from musegen.music.normal import content_end, is_words_only, normal_form
from musegen.music.score import Score, Track

MAX_NAME = 40
"""Characters of a track's name that go into the name of a file."""

_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th"})
"""What Unicode does not take apart into a letter and a sign."""


def stems(score: Score) -> list[tuple[str, Score]]:
    """One score a track, in order, each with a name for its file, without suffix (`02-bass`).

    Each has the whole conductor (title, tempo map, meters, keys, markers, comments) and ends at
    the barline at which the score ends, so that all of them begin at bar 1 and line up. Tracks of
    words only are left out. The number is the track's in the score, counted from 1, so no two names
    are equal; the rest is the track's name in lower case ASCII, or its instrument's where nothing
    of the name can be said in ASCII.

    (More than 4000 quarter notes of silence after a track's last note are cut by the writer, as in
    any file: such a stem still begins at bar 1, and ends early.)

    Raises `MidiError` for what no MIDI file can hold.
    """
    score, _ = normal_form(score)
    end_tick = max(barline_after(score, content_end(score)), score.length_tick)
    digits = max(2, len(str(len(score.tracks))))
    return [
        (
            f"{number:0{digits}d}-{_file_name(track)}",
            score.replace(tracks=(track,), length_tick=end_tick),
        )
        for number, track in enumerate(score.tracks, start=1)
        if not is_words_only(track)
    ]


def _file_name(track: Track) -> str:
    """What stands after the number: `a-z`, `0-9` and single hyphens between them, never empty."""
    name = _plain(track.name)
    if not re.search("[a-z]", name):
        name = _plain(program_name(track.program, track.is_drum))
    return name


def _plain(name: str) -> str:
    apart = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    letters = apart.encode("ascii", "ignore").decode("ascii").lower()
    return re.sub("[^a-z0-9]+", "-", letters).strip("-")[:MAX_NAME].rstrip("-")
