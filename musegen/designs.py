"""Designs for a song, and whatever else can be proposed, ranked and exported.

```
for one in sleeves("song.mid", words=["night", "train"], num=6):
    one.save("out/night-train")
```
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musegen import __version__
from musegen.art.cover import profile
from musegen.atomic import write_whole
from musegen.covers import theme_of
from musegen.design.base import Design
from musegen.design.search import Found, Proposal, search
from musegen.design.sleeve import Sleeve, Wishes
from musegen.errors import DesignError, UsageError

__all__ = ["Designed", "sleeves"]

OnProgress = Callable[[float, float | None, str], None]


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
    raise DesignError(
        f"{what}: none of {found.evaluations} designs holds every constraint; of the nearest, "
        f"{broken[0].text()}. Ask for less, or for more evaluations"
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
        on_progress: called as `on_progress(done, total, text)`.

    Raises:
        UsageError: unknown words, style or page; a font that lacks letters; wishes that contradict
            each other.
        DesignError: no layout holds every constraint.
        MidiError, CheckpointError, ConfigError: song, model or rule cannot be read.
    """
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
    return made
