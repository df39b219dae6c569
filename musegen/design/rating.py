"""A session of rating: which two are shown, what was preferred, on a local page or elsewhere.

The page is served to this machine only (127.0.0.1), under a random token, with no file but those
of the session and nothing from elsewhere.
"""

from __future__ import annotations

import html
import http.server
import json
import mimetypes
import secrets
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from musegen.atomic import write_whole
from musegen.design.liked import PIECE, features_of_piece
from musegen.design.taste import Rating, Taste, add_rating, read_ratings
from musegen.errors import DataError, OutputError, UsageError
from musegen.music.piece import Piece

__all__ = ["INDEX", "Candidate", "Server", "Session", "add_to_index", "candidates_of"]

SHOWN = (".svg", ".png", ".wav", ".mid")
"""What can be shown of a candidate, the first that is there."""


@dataclass(frozen=True)
class Candidate:
    """One thing that can be preferred."""

    name: str
    kind: str
    features: Mapping[str, float]
    files: tuple[Path, ...]
    """What is shown of it."""


INDEX = "designs.json"


def add_to_index(folder: Path, kind: str, entries: Sequence[Mapping[str, Any]]) -> Path:
    """Adds what was made to the index of a folder, which is made where it is not there.

    Each entry has `name`, `files` and `features`. Raises DataError for a damaged index.
    """
    path, names = folder / INDEX, {str(one["name"]) for one in entries}
    kept = [one for one in _entries(path) if one["name"] not in names] if path.exists() else []
    told = {"format": 1, "designs": [*kept, *({"kind": kind, **one} for one in entries)]}
    write_whole(path, (json.dumps(told, indent=1, sort_keys=True) + "\n").encode())
    return path


def _entries(path: Path) -> list[dict[str, Any]]:
    """Those of an index. Raises DataError for a damaged one."""
    try:
        data = json.loads(path.read_text("utf-8"))
        if data["format"] != 1:
            raise ValueError(f"format {data['format']}")
        return [
            {
                **one,
                "name": str(one["name"]),
                "kind": str(one["kind"]),
                "files": [str(name) for name in one["files"]],
                "features": {str(k): float(v) for k, v in one["features"].items()},
            }
            for one in data["designs"]
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is damaged ({error}); remove it and make the designs again"
        ) from None


def candidates_of(folder: Path, kind: str | None = None) -> list[Candidate]:
    """Those of a folder that `musegen design` or `cover` wrote (`designs.json`), or MIDI files.

    Raises DataError: no such folder, a damaged index, fewer than two, or several kinds of which
    none is named.
    """
    path = folder / INDEX
    if not path.exists():
        if any(folder.glob("*.mid")):
            return _pieces(folder)
        raise DataError(
            f"{folder} holds no designs (no {INDEX}) and no MIDI files: `musegen design`, `cover` "
            "and `compose` write them"
        )
    entries = _entries(path)
    kinds = sorted({one["kind"] for one in entries})
    if kind is None and len(kinds) > 1:
        raise DataError(f"{folder} holds designs of several kinds, {', '.join(kinds)}: say --kind")
    found = []
    for one in entries:
        if kind in (None, one["kind"]):
            given = [folder / Path(name).name for name in one["files"]]
            shown = tuple(file for suffix in SHOWN for file in given if file.suffix == suffix)
            found.append(Candidate(one["name"], one["kind"], one["features"], shown))
    if len(found) < 2:
        what = kind or "design"
        raise DataError(
            f"{folder} holds {len(found)} of {what}: two at least are needed to compare"
        )
    return found


def _pieces(folder: Path) -> list[Candidate]:
    """The MIDI files of a folder, each with its sound or piano roll beside it."""
    found = []
    for path in sorted(folder.glob("*.mid")):
        beside = [path.with_suffix(suffix) for suffix in SHOWN]
        shown = tuple(one for one in beside if one.is_file())
        found.append(Candidate(path.stem, PIECE, features_of_piece(Piece.of(path).score), shown))
    if len(found) < 2:
        raise DataError(f"{folder} holds {len(found)} MIDI file: two at least are needed")
    return found


class Session:
    """What has been preferred so far, and what is asked next."""

    def __init__(self, candidates: Sequence[Candidate], ratings: Path, seed: int = 0) -> None:
        """`ratings` is added to; what it holds of this kind already is known from the start.

        Raises DataError for a damaged file.
        """
        self.candidates, self.path = list(candidates), ratings
        self.kind = self.candidates[0].kind
        self.features = [one.features for one in self.candidates]
        self.known: list[Rating] = []
        if ratings.exists() and ratings.stat().st_size:
            every = read_ratings(ratings)
            self.known = [one for one in every if one.kind == self.kind]
        self.rng = np.random.default_rng([seed, len(self.known)])
        self.added = 0
        self._fit()
        self.pair = self.taste.next_pair(self.features, self.rng)

    def _fit(self) -> None:
        names = sorted(self.features[0])
        self.taste = Taste.fit(self.known) if self.known else Taste.prior(names)

    def prefer(self, side: int | None) -> None:
        """Says which of the pair is liked better, 0 or 1; None shows another pair.

        Raises UsageError for anything else.
        """
        if side is not None:
            if side not in (0, 1):
                raise UsageError(f"preferred {side}: 0, 1, or none of them")
            liked, other = (self.candidates[self.pair[k]] for k in (side, 1 - side))
            rating = Rating(self.kind, liked.features, other.features, (liked.name, other.name))
            add_rating(self.path, rating)
            self.known.append(rating)
            self.added += 1
            self._fit()
        before = self.pair
        for _ in range(20):  # the same two once more would be tiresome
            self.pair = self.taste.next_pair(self.features, self.rng)
            if set(self.pair) != set(before):
                break

    def order(self) -> list[Candidate]:
        """The candidates, the best liked first."""
        return [self.candidates[k] for k in self.taste.order(self.features)]


_PAGE = """<!doctype html><meta charset="utf-8"><title>musegen: which one?</title>
<style>body{{font:16px sans-serif;margin:2em;text-align:center;background:#eee}}
.pair{{display:flex;gap:2em;justify-content:center}}.one{{flex:1;max-width:44vw}}
img{{max-width:100%;max-height:65vh;background:#fff}}
button{{font:inherit;padding:.6em 2em;margin:1em}}
</style><h1>Which one?</h1><p>{count} rated. Arrow keys choose, space shows others.</p>
<div class="pair">{sides}</div>
<form method="post"><button name="side" value="skip">Others</button>
<button name="side" value="stop">Stop</button></form>
<script>addEventListener("keydown",e=>{{const k={{ArrowLeft:"0",ArrowRight:"1"," ":"skip"}}[e.key];
if(k!==undefined){{e.preventDefault();const f=new URLSearchParams({{side:k}});
fetch(location.href,{{method:"POST",body:f}}).then(()=>location.reload());}}}});</script>"""

_DONE = """<!doctype html><meta charset="utf-8"><title>musegen: done</title>
<body style="font:16px sans-serif;margin:2em">{count} rated. This page can be closed."""


class Server:
    """Serves a session until it is stopped there."""

    def __init__(self, session: Session, port: int = 0) -> None:
        """`port` 0 is any that is free. Raises OutputError where it cannot be had."""
        self.session, self.done = session, False
        self.token = secrets.token_urlsafe(16)
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            timeout = 5  # browsers open connections that they do not use

            def do_GET(self) -> None:
                outer.answer(self)

            def do_POST(self) -> None:
                outer.take(self)

            def log_message(self, *_: Any) -> None:
                """Nothing: the terminal is the user's."""

        try:
            self._server = http.server.HTTPServer(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:
            raise OutputError(f"port {port} cannot be used ({error}); name another") from None
        self.address = f"http://127.0.0.1:{self._server.server_port}/{self.token}/"

    def run(self) -> None:
        """Answers until the page says stop, or Ctrl-C."""
        try:
            while not self.done:
                self._server.handle_request()
        finally:
            self._server.server_close()

    def _parts(self, handler: Any) -> list[str] | None:
        """The path below the token; None, and an answer, for any other."""
        host = handler.headers.get("Host", "")
        parts = urllib.parse.urlsplit(handler.path).path.strip("/").split("/")
        if parts[0] != self.token or host != f"127.0.0.1:{self._server.server_port}":
            handler.send_error(404)
            return None
        return parts[1:]

    def answer(self, handler: Any) -> None:
        """The page, or a file of a candidate by its numbers."""
        parts = self._parts(handler)
        if parts is None:
            return
        if not parts:
            self._send(handler, self._page().encode(), "text/html; charset=utf-8")
            return
        try:
            number, file = (int(one) for one in parts)
            if number < 0 or file < 0:
                raise IndexError
            path = self.session.candidates[number].files[file]
            data = path.read_bytes()
        except (ValueError, IndexError, OSError):
            handler.send_error(404)
            return
        self._send(handler, data, mimetypes.guess_type(path.name)[0] or "application/octet-stream")

    def take(self, handler: Any) -> None:
        """What was chosen."""
        if self._parts(handler) is None:
            return
        said = str(handler.headers.get("Content-Length") or "")
        length = min(int(said), 1000) if said.isdigit() else 0
        form = urllib.parse.parse_qs(handler.rfile.read(length).decode("utf-8", "replace"))
        side = form.get("side", [""])[0]
        if side == "stop":
            self.done = True
        elif side in ("0", "1", "skip"):
            self.session.prefer(None if side == "skip" else int(side))
        else:
            handler.send_error(400)
            return
        if self.done:
            text = _DONE.format(count=self.session.added)
            self._send(handler, text.encode(), "text/html; charset=utf-8")
            return
        handler.send_response(303)
        handler.send_header("Location", f"/{self.token}/")
        handler.end_headers()

    def _page(self) -> str:
        sides = []
        for side, number in enumerate(self.session.pair):
            one = self.session.candidates[number]
            shown = "".join(
                self._shown(number, k, path.suffix) for k, path in enumerate(one.files[:4])
            )
            sides.append(
                f'<form class="one" method="post">{shown or "nothing to show"}<br>'
                f'<button name="side" value="{side}">{html.escape(one.name)}</button></form>'
            )
        return _PAGE.format(count=self.session.added, sides="".join(sides))

    def _shown(self, number: int, file: int, suffix: str) -> str:
        source = f"/{self.token}/{number}/{file}"
        if suffix == ".wav":
            return f'<audio controls src="{source}"></audio>'
        if suffix == ".mid":
            return f'<a href="{source}">MIDI</a>'
        pictures = [p.suffix for p in self.session.candidates[number].files[:file]]
        # One picture is enough: a drawing is there as SVG and PNG.
        return "" if {".svg", ".png"} & set(pictures) else f'<img src="{source}" alt="">'

    @staticmethod
    def _send(handler: Any, data: bytes, kind: str) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data)))
        handler.send_header("Cache-Control", "no-store")
        handler.send_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
        handler.end_headers()
        handler.wfile.write(data)
