"""roll.py: shaded stretches and PNG. What the SVG holds is tested in test_score.py."""

from __future__ import annotations

import struct
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from musegen.errors import OutputError, UsageError
from musegen.music.piece import Piece
from musegen.music.roll import roll_png, svg_roll

SCORE = Piece.load(Path(__file__).resolve().parents[1] / "examples" / "night_bus.mid").score


def test_stretches_are_shaded_in_the_colour_of_their_track():
    bars = SCORE.bars()
    plain = svg_roll(SCORE)
    shaded = svg_roll(SCORE, stretches=[(2, bars[4].start_tick, 10**9)])
    assert len(list(ElementTree.fromstring(shaded).iter())) == (
        len(list(ElementTree.fromstring(plain).iter())) + 1
    )
    assert 'x="450.0"' in shaded and 'width="450.0"' in shaded  # the later half, cut at the end
    assert '#009E73" fill-opacity="0.16"' in shaded
    with pytest.raises(UsageError, match="no track 4"):
        svg_roll(SCORE, stretches=[(4, 0, 480)])


def test_png():
    pytest.importorskip("resvg_py")
    data = roll_png(SCORE, width=300, height=100, scale=1)
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    assert (width, height) == (460, 100)
    # It has its text: names of other tracks give another picture.
    renamed = SCORE.replace(tracks=[replace(t, name=f"{t.name} 2") for t in SCORE.tracks])
    assert roll_png(renamed, width=300, height=100, scale=1) != data


def test_png_says_what_it_lacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(OutputError, match=r"pip install \"musegen\[png\]\""):
        roll_png(SCORE)
