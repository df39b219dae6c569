from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musegen.data.listing import Joined, Made, Names, walk

NAMES = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), max_size=20)


@given(NAMES)
def test_names_are_a_sequence(names: list[str]) -> None:
    listed = Names(names)
    assert list(listed) == names and len(listed) == len(names)
    assert listed[1:3] == tuple(names[1:3])
    if names:
        assert listed[-1] == names[-1] and listed[0] == names[0]
    with pytest.raises(IndexError):
        listed[len(names)]


def test_names_that_are_not_utf8_come_back() -> None:
    name = os.fsdecode(b"\xff\xfc.mid")
    assert Names([name])[0] == name


@given(NAMES, NAMES, st.data())
def test_joined_and_made(one: list[str], two: list[str], data: st.DataObject) -> None:
    whole = one + two
    assert list(Joined([Names(one), (), two])) == whole
    assert list(Made(Names(whole), len)) == [len(name) for name in whole]
    places = data.draw(st.lists(st.sampled_from(range(len(whole))))) if whole else []
    assert list(Joined([one, two], places)) == [whole[place] for place in places]


def test_files_come_in_the_order_of_their_paths(tmp_path: Path) -> None:
    names = ["a/z.mid", "a-b/x.mid", "a.mid", "b/c/d.mid", "b/c-d.mid", "B.mid", "b/c.mid"]
    for name in [*names, ".hidden/x.mid", "b/.hidden.mid"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    (tmp_path / "file.mid").symlink_to(tmp_path / "a.mid")
    assert list(walk(tmp_path)) == sorted([*names, "file.mid"])


def test_a_name_takes_little_memory() -> None:
    tracemalloc.start()
    names = Names(f"folder/{number:060d}.mid" for number in range(20_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held / len(names) < 110  # 71 bytes of text, 8 of its end, and room to grow
