from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from musegen import assets
from musegen.data.cards import card_from_dict, card_names, load_card
from musegen.data.corpus import corpus_sha256, find_corpora, read_item
from musegen.errors import ConfigError, DataError, MidiError

MINIMAL = {
    "name": "mine",
    "title": "Mine",
    "description": "Some music.",
    "licence": "CC0-1.0",
    "may_ship": True,
}


def minimal(**changes) -> dict:
    return {**MINIMAL, **changes}


@pytest.mark.parametrize("name", card_names())
def test_every_card_is_whole(name: str) -> None:
    card = load_card(name)
    assert card.title and card.description and card.licence and card.get
    assert card.is_mix or card.source
    for member in card.members:
        assert not load_card(member.card).is_mix
    json.dumps(card.to_dict())


def test_the_corpora_that_were_asked_for_have_cards() -> None:
    wanted = {"jsb", "nottingham", "pop909", "maestro", "pdmx", "music21", "clean", "groove"}
    assert wanted <= set(card_names())
    assert len(load_card("clean").members) == 10


def test_a_mix_ships_only_what_all_its_members_allow() -> None:
    for card in map(load_card, card_names()):
        if card.is_mix and card.may_ship:
            assert all(load_card(member.card).may_ship for member in card.members)
    for name in ("jsb", "nottingham", "pop909", "maestro", "pdmx", "music21"):
        assert not load_card(name).may_ship
    assert "not for commercial use" in load_card("music21").licence_note


def test_cards_are_toml_files_named_after_themselves() -> None:
    for name, path in assets.cards().items():
        assert tomllib.loads(path.read_text("utf-8"))["name"] == name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"licens": "MIT"}, "did you mean 'licence'"),
        ({"split": {"trian": 1.0}}, "did you mean 'train'"),
        ({"split": {"train": 0.5}}, "add up to 1"),
        ({"split": {"train": "all"}}, "must be of type float"),
        ({"split": {"rule": "share"}}, "did you mean 'shares'"),
        ({"format": "mid"}, "did you mean 'midi'"),
        ({"may_ship": 1}, "must be of type bool"),
        ({"layout": [1]}, "list of strings"),
        ({"group": "("}, "no regular expression"),
        ({"name": "My Music"}, "lower-case"),
        ({"augment": {"transpose": [3, 5]}}, "around 0"),
        ({"augment": {"tempo": [0.9]}}, "two numbers"),
        ({"augment": {"velocity": 90}}, "from 0 to 64"),
        ({"augment": {"drum_jitter": 1.5}}, "from 0 to 1"),
        ({"augment": {"programs": -1.0}}, "from 0 to 1"),
        ({"members": [{"card": "jsb", "weight": 0}]}, "above 0"),
        ({"members": [{"weight": 1}]}, "missing card"),
        ({"drum_map": {"22": 200}}, "pitches"),
        ({"drum_map": {"x": 2}}, "pitches"),
    ],
)
def test_what_is_wrong_in_a_card_is_named(changes: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        card_from_dict(minimal(**changes))
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named() -> None:
    data = minimal()
    del data["licence"]
    with pytest.raises(ConfigError, match="missing licence"):
        card_from_dict(data)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(DataError, match="groove"):
        load_card("grove")
    with pytest.raises(DataError, match="music21"):
        find_corpora("musik21")


def test_an_empty_name_is_not_the_current_folder() -> None:
    with pytest.raises(DataError, match="is empty"):
        find_corpora("")


@pytest.mark.parametrize(
    ("card", "name", "group"),
    [
        ("groove", "drummer1_session2_7_rock_120_beat_4-4", "drummer1_session2"),
        ("groove", "drummer1/session2/7_rock_120_beat_4-4", "drummer1/session2"),
        ("groove", "drummer7_eval_session_1_funk-groove1_138_beat_4-4", "eval_session"),
        ("chopin_nifc", "028_1-12-1a-C-005", "028"),
        ("chopin_nifc", "028-1-BH-002", "028"),
        ("mutopia", "JoplinS_entertainer_entertainer", "JoplinS"),
        ("mutopia", "HulakArtemovsky", "HulakArtemovsky"),
        ("openhymnal", "Alleluia_Sing_To_Jesus-Hyfrydol", "Hyfrydol"),
        (
            "openscore_orchestra",
            "data__Beethoven__Ludwig_van__Symphony_No.1__Op.21__2__Beethoven_Op.21_2",
            "Beethoven__Ludwig_van__Symphony_No.1",
        ),
        (
            "openscore_lieder",
            "scores__Beach__Amy__3_Browning_Songs__Op.44__1_The_Years_at_the_Spring__lc6212179",
            "Beach__Amy__3_Browning_Songs",
        ),
        (
            "openscore_lieder",
            "scores__Arne__Thomas_____Hush_to_Peace__lc8871933",
            "Arne__Thomas_____Hush_to_Peace",
        ),
        (
            "openscore_lieder",
            "s__Parratt__Walter__Choral_Songs__5_She_wrought__lc6683352",
            "Parratt__Walter__Choral_Songs",
        ),
        ("music21", "bach/bwv66.6", "bach/bwv66"),
        ("music21", "haydn/opus54no2/movement1", "haydn/opus54no2"),
        ("pop909", "POP909_002_002", "002"),
        ("nottingham", "MIDI_jigs1", "MIDI_jigs1"),
    ],
)
def test_groups(card: str, name: str, group: str) -> None:
    assert load_card(card).group_of(name) == group


def test_aliases_join_groups() -> None:
    card = card_from_dict(minimal(group="^([^_]+)_", aliases={"Bch": "Bach"}))
    assert card.group_of("Bch_fugue") == card.group_of("Bach_prelude") == "Bach"


def test_the_chorales_are_read_from_json(tmp_path: Path) -> None:
    steps = [[65, 60, 57, 53]] * 4 + [[67, 60, 57]] * 2
    (tmp_path / "jsb-chorales-16th.json").write_text(
        json.dumps({"train": [steps], "valid": [steps], "test": [steps, [[300]], "x"]})
    )
    corpus = find_corpora("jsb", tmp_path).corpora[0]
    assert [item.split for item in corpus.items].count("test") == 3
    score, _ = read_item(corpus.items[-1])
    soprano, *_, bass = score.tracks
    assert [tuple(note) for note in soprano] == [(0, 480, 65, 80), (480, 240, 67, 80)]
    assert [tuple(note) for note in bass] == [(0, 480, 53, 80)]
    by_entry = {item.entry: item for item in corpus.items}
    assert read_item(by_entry["test/1"])[0].num_notes == 0  # 300 is no pitch
    with pytest.raises(MidiError):
        read_item(by_entry["test/2"])


def test_a_damaged_json_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "jsb-chorales-16th.json").write_text("[1")
    with pytest.raises(DataError):
        find_corpora("jsb", tmp_path)


def test_a_source_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MUSEGEN_DATA", raising=False)
    with pytest.raises(DataError, match="--source"):
        find_corpora("freedoom")
    monkeypatch.setenv("MUSEGEN_DATA", str(tmp_path))
    with pytest.raises(DataError, match="holds no files"):
        find_corpora("freedoom")
    with pytest.raises(DataError, match="no folder"):
        find_corpora("clean")
    (tmp_path / "freedoom").mkdir()
    (tmp_path / "freedoom" / "A.MID").write_bytes(b"x")
    assert [item.name for item in find_corpora("freedoom").corpora[0].items] == ["A"]


def test_the_scores_of_music21_are_there_after_install() -> None:
    corpus = find_corpora("music21").corpora[0]
    assert len(corpus.items) > 300
    assert any(item.group == "bach/bwv66" for item in corpus.items)


def test_a_corpus_checksum_depends_on_names_and_bytes(tmp_path: Path) -> None:
    for name in ("a.mid", "b.mid"):
        (tmp_path / name).write_bytes(name.encode())
    paths = list(tmp_path.iterdir())
    first = corpus_sha256(tmp_path, paths)
    assert corpus_sha256(tmp_path, paths[::-1]) == first
    (tmp_path / "a.mid").write_bytes(b"other")
    assert corpus_sha256(tmp_path, paths) != first
