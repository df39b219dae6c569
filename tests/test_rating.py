"""Sessions of rating: pairs, the page on this machine, and what a folder holds."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest

from musegen.cli.main import run
from musegen.design.rating import INDEX, Server, Session, add_to_index, candidates_of
from musegen.design.taste import read_ratings
from musegen.errors import DataError, OutputError, UsageError


@pytest.fixture
def folder(tmp_path):
    entries = []
    for k in range(5):
        (tmp_path / f"one-{k}.svg").write_text(
            f"<svg xmlns='http://www.w3.org/2000/svg' id='{k}'/>"
        )
        (tmp_path / f"one-{k}.wav").write_bytes(b"RIFF")
        files = [f"one-{k}.svg", f"one-{k}.wav", f"one-{k}.pdf"]
        features = {"large": k / 2 - 1, "dark": (-1) ** k / 2}
        entries.append({"name": f"one-{k}", "files": files, "features": features})
    add_to_index(tmp_path, "sleeve", entries)
    return tmp_path


def test_an_index_is_added_to(folder):
    found = candidates_of(folder)
    assert [one.name for one in found] == [f"one-{k}" for k in range(5)]
    assert [path.suffix for path in found[0].files] == [".svg", ".wav"]
    again = {"name": "one-4", "files": [], "features": {"large": 0.0, "dark": 0.0}}
    add_to_index(folder, "sleeve", [again])
    assert len(candidates_of(folder)) == 5 and candidates_of(folder)[-1].features["large"] == 0
    add_to_index(folder, "bar", [again | {"name": "bar-1"}])
    with pytest.raises(DataError, match="several kinds, bar, sleeve: say --kind"):
        candidates_of(folder)
    assert len(candidates_of(folder, "sleeve")) == 5
    with pytest.raises(DataError, match="holds 1 of bar"):
        candidates_of(folder, "bar")


def test_files_outside_the_folder_are_not_shown(tmp_path):
    (tmp_path / "secret.svg").write_text("<svg/>")
    inner = tmp_path / "inner"
    inner.mkdir()
    entry = {"files": ["../secret.svg", "/etc/hostname.svg"], "features": {"x": 1.0}}
    add_to_index(inner, "sleeve", [entry | {"name": "a"}, entry | {"name": "b"}])
    for one in candidates_of(inner):
        assert all(path.parent == inner for path in one.files)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "designs": [{}]}'])
def test_damaged_indexes(tmp_path, text):
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(DataError, match=r"designs\.json is damaged"):
        candidates_of(tmp_path)
    with pytest.raises(DataError, match=r"designs\.json is damaged"):
        add_to_index(tmp_path, "bar", [])


def test_a_session_learns_and_keeps(folder):
    path = folder / "ratings.jsonl"
    session = Session(candidates_of(folder), path, seed=1)
    for _ in range(8):
        large = [session.candidates[k].features["large"] for k in session.pair]
        session.prefer(int(np.argmax(large)))
    assert session.added == 8 and len(read_ratings(path)) == 8
    assert session.order()[0].name == "one-4" and session.order()[-1].name == "one-0"
    before = set(session.pair)
    session.prefer(None)
    assert session.added == 8 and set(session.pair) != before
    again = Session(candidates_of(folder), path, seed=1)
    assert again.added == 0 and len(again.known) == 8 and again.order() == session.order()
    with pytest.raises(UsageError, match="preferred 2"):
        session.prefer(2)


@pytest.fixture
def server(folder):
    made = Server(Session(candidates_of(folder), folder / "ratings.jsonl", seed=1))
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    yield made
    if thread.is_alive():
        asked(made, side="stop")
    thread.join(5)
    assert not thread.is_alive()


def asked(server, path="", **form):
    data = urllib.parse.urlencode(form).encode() if form else None
    with urllib.request.urlopen(server.address + path, data, timeout=5) as answer:
        return answer.read().decode(), answer.headers


def test_the_page_shows_two_and_takes_an_answer(server, folder):
    text, headers = asked(server)
    assert text.count("<img") == 2 and text.count("<audio") == 2 and "0 rated" in text
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "http" not in text.replace(server.address, "")  # nothing from elsewhere
    number = server.session.pair[0]
    picture, headers = asked(server, f"{number}/0")
    assert f"id='{number}'" in picture and headers["Content-Type"] == "image/svg+xml"
    text, _ = asked(server, side="1")
    assert "1 rated" in text and len(read_ratings(folder / "ratings.jsonl")) == 1
    text, _ = asked(server, side="skip")
    assert "1 rated" in text
    text, _ = asked(server, side="stop")
    assert "can be closed" in text and server.done


def test_the_page_refuses_what_is_not_its_own(server):
    base = server.address.rsplit("/", 2)[0]
    for path in ("/", "/wrong/", "/../../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(base + path, timeout=5)
    for path in ("99/0", "-1/0", "0/99", "0", "0/../../x", "x/y"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            asked(server, path)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        asked(server, side="7")
    other = urllib.request.Request(server.address, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(other, timeout=5)
    assert server.session.added == 0


def test_a_port_that_is_taken(server, folder):
    port = int(server.address.split(":")[2].split("/")[0])
    with pytest.raises(OutputError, match=f"port {port} cannot be used"):
        Server(server.session, port)


def test_rating_in_the_terminal(folder, monkeypatch, capsys):
    answers = iter(["1\n", "what\n", "s\n", "2\n", "q\n"])

    class Input:
        def readline(self):
            return next(answers)

    monkeypatch.setattr("sys.stdin", Input())
    assert run(["design", "rate", str(folder), "--terminal", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["rated"] == 2 and len(json.loads(told.out)["order"]) == 5
    assert "'what'?" in told.err and len(read_ratings(folder / "ratings.jsonl")) == 2


def test_rating_what_there_is_not(tmp_path, capsys):
    assert run(["design", "rate", str(tmp_path)]) == 1
    assert "holds no designs" in capsys.readouterr().err
    (tmp_path / "a.mid").write_bytes(b"no MIDI")
    assert run(["design", "rate", str(tmp_path)]) == 1
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
