"""Continuations of real files with the default model: the seed comes back, the file is clean."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

import musegen
from musegen import assets
from musegen.errors import MusegenError
from musegen.music.check import check_midi
from musegen.music.midi import read_midi

pytestmark = [pytest.mark.data, pytest.mark.slow]

CORPORA = {
    "freedoom": 3,
    "blasphemer": 2,
    "groove": 3,
    "chopin_nifc": 3,
    "mutopia": 3,
    "openhymnal": 3,
    "openscore_lieder": 3,
    "openscore_stringquartets": 3,
    "openscore_orchestra": 2,
}
"""How many files of each: 25."""

BARS = 8


@pytest.fixture(scope="module")
def model() -> musegen.Model:
    if "default" not in assets.weights():
        pytest.fail("the default model is not installed")
    return musegen.Model.from_pretrained("default", device="cpu")


@pytest.fixture(scope="module")
def files(shared_data, tmp_path_factory) -> list[Path]:
    """Evenly spaced files of every corpus, unpacked."""
    folder = tmp_path_factory.mktemp("real")
    found: list[Path] = []
    for corpus, count in CORPORA.items():
        with tarfile.open(shared_data / "clean" / f"{corpus}.tar.xz") as archive:
            names = sorted(name for name in archive.getnames() if name.endswith(".mid"))
            chosen = [names[round(i)] for i in np.linspace(0, len(names) - 1, count + 2)[1:-1]]
            archive.extractall(folder, [archive.getmember(name) for name in chosen], filter="data")
        found += [folder / name for name in chosen]
    return found


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.5])
def test_continuations_of_real_files(model, files, temperature):
    failures = []
    for path in files:
        seed, _ = read_midi(path)
        try:
            piece = musegen.compose(
                path, bars=BARS, model=model, temperature=temperature, random_seed=5
            )
        except MusegenError as error:
            failures.append(f"{path.name}: {error}")
            continue
        failures += [f"{path.name}: {problem}" for problem in problems(seed, piece)]
    assert not failures, "\n".join(failures)


def problems(seed: musegen.Score, piece: musegen.Piece) -> list[str]:
    """What is wrong with a continuation of a seed."""
    data = piece.to_bytes(ports=True)
    said = [f"{defect.code}: {defect.message}" for defect in check_midi(data)]
    score, _ = read_midi(data)
    seed_bars = len(seed.bars())
    if len(score.bars()) != seed_bars + BARS:
        said.append(f"{len(score.bars())} bars, asked for {seed_bars} + {BARS}")
    seam = seed.bars()[-1].end_tick
    kept = [track for track in seed.tracks if len(track)]
    for before in kept:
        after = [
            track
            for track in score.tracks
            if track.name == before.name and track.program == before.program
        ]
        if not any(
            np.array_equal(track.notes[track.notes["start_tick"] < seam], before.notes)
            for track in after
        ):
            said.append(f"track {before.name!r} of the seed changed")
    for what in ("tempos", "meters", "keys"):
        held = tuple(item for item in getattr(seed, what) if item.tick <= seam)
        if getattr(score, what)[: len(held)] != held:
            said.append(f"{what} of the seed changed")
    if score.ppq != seed.ppq:
        said.append(f"ppq {score.ppq}, was {seed.ppq}")
    if (seam, "Generated") not in [tuple(marker) for marker in score.markers]:
        said.append("no marker at the seam")
    return said
