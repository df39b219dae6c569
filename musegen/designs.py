"""Designs for a song, and the instruments that play it: proposed, ranked, exported.

```
for one in sleeves("song.mid", words=["night", "train"], num=6):
    one.save("out/night-train")
```
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from musegen import __version__
from musegen.art.cover import profile
from musegen.atomic import write_whole
from musegen.config import to_dict
from musegen.covers import theme_of
from musegen.design.bar import Bar, Workshop, note_number, note_text, ratios_of
from musegen.design.bar_files import voice_of
from musegen.design.base import Design
from musegen.design.liked import in_order
from musegen.design.materials import OWN_TABLE, material_named
from musegen.design.modal import Played, Voice, play
from musegen.design.rating import add_to_index
from musegen.design.search import Box, Found, Proposal, search
from musegen.design.sleeve import Sleeve, Wishes
from musegen.design.taste import Taste, read_ratings
from musegen.errors import DataError, DesignError, UsageError
from musegen.music.piece import Piece

__all__ = [
    "Designed",
    "Instrument",
    "bars",
    "instrument",
    "liked_first",
    "play_on",
    "sleeves",
    "write_index",
]

OnProgress = Callable[[float, float | None, str], None]

LIKED_OF = 3
"""Where a taste chooses, so many times as many designs are made."""

OUT_OF_TUNE = 50.0
"""Cents: a worst partial that is further off is not what was asked for."""

IN_TUNE, TRIES = 10.0, 3
"""Cents: while a bar is further off, it is searched for again, so often in all."""

INSTRUMENT = "instrument.json"

VOICE_FIELDS = ("partials_hz", "decays_s", "gains")


@dataclass(frozen=True, eq=False)
class Designed:
    """A proposal, and how it was made."""

    design: Design
    proposal: Proposal
    facts: Mapping[str, Any]

    @property
    def features(self) -> Mapping[str, float]:
        """What a designer may like or not, by name."""
        return self.proposal.judged.features

    def files(self) -> Mapping[str, bytes]:
        """Its files by suffix; the same seed gives the same bytes."""
        return self.design.export(self.proposal.made, self.facts)

    def save(self, stem: str | os.PathLike[str]) -> list[Path]:
        """Writes `STEM.svg` and the others, whole or not at all each. Returns their paths."""
        written = []
        for suffix, data in self.files().items():
            path = Path(f"{os.fspath(stem)}{suffix}")
            write_whole(path, data)
            written.append(path)
        return written


def best_feasible(found: Found, what: str) -> Proposal:
    """The best proposal that both evaluators let through.

    Raises DesignError where there is none, with the constraint that is hardest.
    """
    for one in found.proposals:
        if one.feasible:
            return one
    nearest = found.proposals[0]
    broken = (*nearest.judged.broken(), *nearest.searched.broken())
    hardest = max(broken, key=lambda one: one.excess())
    raise DesignError(
        f"{what}: none of {found.evaluations} designs holds every constraint; of the nearest, "
        f"{hardest.text()}. Ask for less, or for more evaluations"
    )


def sleeves(
    song: Any,
    *,
    title: str | None = None,
    artist: str = "",
    words: Sequence[str] | None = None,
    style: str = "",
    guidance: float | None = None,
    emblem: str = "drawn",
    page: str = "sleeve",
    num: int = 6,
    evaluations: int = 2000,
    wishes: Wishes = Wishes(),
    model: str | os.PathLike[str] = "icons",
    font: str | os.PathLike[str] | None = None,
    rule: str | os.PathLike[str] | None = None,
    random_seed: int | None = None,
    taste: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Designed]:
    """Lays out sleeves or posters for a song, each of another look.

    Args:
        song, title, artist, words, style, guidance, model, font, rule, random_seed: as in
            `musegen.covers.cover`.
        emblem: `drawn` by the image model, or `rings`, which need none.
        page: a name of `musegen.design.sleeve.PAGES`.
        num: how many; each has an emblem of its own.
        evaluations: layouts that are tried for each.
        wishes: what must hold.
        taste: a file of ratings; then `LIKED_OF` times as many are made, and the best liked kept.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: unknown words, style or page; a font that lacks letters; wishes that contradict
            each other.
        DesignError: no layout holds every constraint.
        MidiError, CheckpointError, ConfigError: song, model or rule cannot be read.
    """
    if taste is not None:
        Taste.fit(read_ratings(taste, Sleeve.name))  # says what is wrong before the work
    wanted, num = num, num if taste is None else LIKED_OF * num
    if emblem not in ("drawn", "rings"):
        raise UsageError(f"emblem '{emblem}': drawn or rings")
    if num < 1:
        raise UsageError(f"num {num}: ask for 1 or more")
    asked: dict[str, Any] = {"title": title, "artist": artist, "font": font, "rule": rule}
    used: Any = None
    if emblem == "drawn":
        from musegen.image_model import ImageModel

        used = ImageModel.from_pretrained(model)
    theme = theme_of(song, words=words, known=used.words if used else (), **asked)
    seed = theme.random_seed if random_seed is None else random_seed
    emblems: list[tuple[str, int]] = [("", 1)] * num
    facts: dict[str, Any] = {"version": __version__, "random_seed": seed, "options": {}}
    if used is not None:
        from musegen.art.trace import traced
        from musegen.pictures import sample

        drawn = sample(
            model=used,
            style=style,
            words=theme.words,
            num=num,
            guidance=guidance,
            random_seed=seed,
            on_progress=on_progress,
        )
        emblems = [(traced(one.pixels), used.size) for one in drawn]
        facts = dict(drawn[0].facts)
    own: dict[str, Any] = {"page": page, "title": theme.title, "artist": artist, "emblem": emblem}
    own |= {"evaluations": evaluations, "song_sha256": theme.piece.sha256()}
    own |= {"wishes": to_dict(wishes)}
    facts |= {"verb": "design sleeve", "options": {**facts["options"], **own}}
    music = profile(theme.piece.score)
    made = []
    for number in range(num):
        design = Sleeve(
            theme.title,
            theme.palette,
            music,
            artist=artist,
            emblem=emblems[number],
            page=page,
            font=theme.font,
            wishes=wishes,
            look=number,
        )
        found = search(design, evaluations=evaluations, num=3, seed=seed % 2**32 + number)
        if found.interrupted:
            break
        best = best_feasible(found, f"{page} {number + 1}")
        made.append(Designed(design, best, facts | {"sample": number}))
        if on_progress is not None:
            on_progress(number + 1, num, f"layout {number + 1} of {num}")
    if not made:
        raise KeyboardInterrupt
    return made if taste is None else liked_first(made, taste)[:wanted]


def liked_first(made: Sequence[Designed], taste: str | os.PathLike[str]) -> list[Designed]:
    """Designs of one kind in the order of a taste, by its file of ratings.

    Raises DataError, UsageError: the file cannot be used for them.
    """
    return in_order(made, [one.features for one in made], made[0].design.name, taste)


def write_index(
    folder: Path, named: Mapping[str, Designed], files: Mapping[str, list[Path]]
) -> Path:
    """Adds designs to the index of a folder: names, files, features, and how good they are."""
    entries = [
        {
            "name": name,
            "files": [path.name for path in files[name]],
            "features": dict(one.features),
            "objective": one.proposal.judged.objective,
            "feasible": one.proposal.feasible,
        }
        for name, one in named.items()
    ]
    return add_to_index(folder, next(iter(named.values())).design.name, entries)


# --- Instruments --------------------------------------------------------------------------------


def bars(
    note: str | int,
    *,
    ratios: str = "1:4:10",
    material: str = "rosewood",
    num: int = 6,
    evaluations: int = 600,
    workshop: Workshop = Workshop(),
    materials: str | os.PathLike[str] | None = None,
    method: str = "cma",
    random_seed: int = 0,
    taste: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> list[Designed]:
    """Tuned bars of one note, unlike each other, the best tuned first.

    Args:
        note: as `A3`, `C#5`, or MIDI's number.
        ratios: of the first two or three partials.
        material: a name of musegen/design/materials.toml.
        num: how many.
        evaluations: bars that are tried for each.
        workshop: what can be made.
        materials: a table of your own, as musegen/design/materials.toml.
        method: of the search, `cma` or `random`.
        random_seed: the same seed gives the same bytes.
        taste: a file of ratings; then `LIKED_OF` times as many are made, and the best liked kept.
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: a note, ratios or material that there is not.
        ConfigError: a damaged table of materials.
        DesignError: none can be made; the message says what is the nearest that can.
    """
    if num < 1:
        raise UsageError(f"num {num}: ask for 1 or more")
    pitch = note if isinstance(note, int) else note_number(note)
    table = OWN_TABLE if materials is None else Path(materials)
    design = Bar(pitch, ratios_of(ratios), material_named(material, table), workshop)
    if taste is not None:
        Taste.fit(read_ratings(taste, design.name))
    wanted, num = num, num if taste is None else LIKED_OF * num
    options: dict[str, Any] = {
        "note": note_text(pitch),
        "ratios": ratios,
        "material": material,
        "method": method,
    }
    options |= {"evaluations": evaluations, "workshop": to_dict(workshop)}
    made: list[Designed] = []
    for number in range(num):
        found = _searched(design, method, evaluations, random_seed + number)
        if found is None:
            break
        best = _tuned(design, found)
        facts = {"version": __version__, "verb": "design bar", "random_seed": random_seed}
        made.append(Designed(design, best, facts | {"options": options, "sample": number}))
        if on_progress is not None:
            on_progress(number + 1, num, f"{note_text(pitch)}: {best.judged.objective:.1f} cents")
    if not made:
        raise KeyboardInterrupt
    made.sort(key=lambda one: one.proposal.judged.objective)
    return made if taste is None else liked_first(made, taste)[:wanted]


def _searched(design: Bar, method: str, evaluations: int, seed: int) -> Found | None:
    """The best of a few searches, for one in eight ends beside the best shape; None for Ctrl-C."""
    best: Found | None = None
    for attempt in range(TRIES):
        found = search(design, method=method, evaluations=evaluations, seed=seed + 1000 * attempt)
        if found.interrupted:
            return None
        rank = [
            (not one.proposals[0].feasible, one.proposals[0].judged.objective)
            for one in (found, best or found)
        ]
        best = found if best is None or rank[0] < rank[1] else best
        if best.proposals[0].feasible and best.proposals[0].judged.objective <= IN_TUNE:
            break
    return best


def _tuned(design: Bar, found: Found) -> Proposal:
    """The best bar. Raises DesignError where none is feasible, or ratios are out of reach."""
    try:
        best = best_feasible(found, f"a bar of {note_text(design.note)}")
    except DesignError as error:
        low, high = _reach(design)
        raise DesignError(
            f"{error}. Of {design.material.title}, this workshop can make about {low} to {high}"
        ) from None
    if best.judged.objective > OUT_OF_TUNE and found.evaluations >= 200:
        partials = design.partials(best.made, fine=True)
        nearest = ":".join(f"{one:.3g}" for one in partials / partials[0])
        asked = ":".join(f"{one:g}" for one in design.ratios)
        raise DesignError(
            f"ratios {asked} are out of reach of a bar of {note_text(design.note)}; the nearest "
            f"that was found is {nearest}"
        )
    return best


def _reach(design: Bar) -> tuple[str, str]:
    """The lowest and the highest note for which a workshop can make a bar of some shape."""
    rng = np.random.default_rng(0)
    low, high = 127, 0
    for numbers in Box(design.bounds).numbers(rng.random((60, len(design.bounds)))):
        made = design.decode(numbers)
        shop, first = design.workshop, design.first_hz
        # A bar so many times as long has its partials so many times lower.
        shortest = max(
            shop.shortest_mm / 1000 / made.length_m, shop.thinnest_mm / 1000 / made.thinnest_m
        )
        longest = min(
            shop.longest_mm / 1000 / made.length_m,
            shop.thickest_mm / 1000 / made.end_m,
            (shop.heaviest_g / 1000 / made.mass_kg) ** 0.5,
        )
        if shortest <= longest and made.steepest <= shop.steepest:
            ends = [69 + 12 * math.log2(first / size / 440) for size in (longest, shortest)]
            low, high = min(low, math.ceil(ends[0])), max(high, math.floor(ends[1]))
    if low > high:
        return "nothing", "nothing"
    return note_text(max(0, low)), note_text(min(127, high))


@dataclass(frozen=True, eq=False)
class Instrument:
    """A set of bars."""

    bars: Mapping[int, Designed]
    """By MIDI pitch."""

    def save(self, folder: Path) -> list[Path]:
        """Writes each bar's files, `designs.json`, and `instrument.json` for `play-on`."""
        folder.mkdir(parents=True, exist_ok=True)
        named = {note_text(pitch).replace("#", "s"): one for pitch, one in self.bars.items()}
        files = {name: one.save(folder / name) for name, one in named.items()}
        index = write_index(folder, named, files)
        voices = {
            str(pitch): to_dict(voice_of(cast(Bar, one.design), one.proposal.made))
            for pitch, one in self.bars.items()
        }
        path = folder / INSTRUMENT
        text = json.dumps({"format": 1, "voices": voices}, indent=1, sort_keys=True)
        write_whole(path, (text + "\n").encode())
        return [*(one for group in files.values() for one in group), index, path]


def instrument(
    lowest: str, highest: str, *, on_progress: OnProgress | None = None, **options: Any
) -> Instrument:
    """A bar for each semitone from one note to another; `options` are those of `bars`.

    Raises as `bars`; UsageError where the second note is below the first.
    """
    low, high = note_number(lowest), note_number(highest)
    if high < low:
        raise UsageError(f"range {lowest} to {highest}: the second note is below the first")
    made = {}
    for pitch in range(low, high + 1):
        made[pitch] = bars(pitch, num=1, **options)[0]
        if on_progress is not None:
            error = made[pitch].proposal.judged.objective
            on_progress(pitch - low + 1, high - low + 1, f"{note_text(pitch)}: {error:.1f} cents")
    return Instrument(made)


def play_on(song: Any, folder: str | os.PathLike[str], rate: int = 44_100) -> Played:
    """A song on an instrument that `musegen design instrument` wrote, as WAV.

    Raises:
        DataError: the folder holds no instrument, or a damaged one.
        MidiError: the song cannot be read.
    """
    path = Path(folder) / INSTRUMENT
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["format"] != 1:
            raise ValueError(f"format {data['format']}")
        voices = {
            int(pitch): Voice(*(tuple(map(float, one[name])) for name in VOICE_FIELDS))
            for pitch, one in data["voices"].items()
        }
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no instrument (no {INSTRUMENT}): `musegen design instrument` makes one"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is damaged ({error}); make the instrument again") from None
    return play(Piece.of(song).score, voices, rate)
