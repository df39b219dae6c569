"""What infilling, accompanying and continuing gain from what is given, and what they cost.

On held-out pieces, nats per note of the cells to write, in the same weights:

- `shown`: the document of sampling, given cells of a bar first;
- `left out`: the same without the given cells of the bars that have open ones;
- `plain`: the plain order, which shows given cells only where they stand before the open ones;
- `after`: as `shown`, four wholly given bars behind the window before it (infilling only);
- for continuing, `shown` is with the bars before, `left out` without them.

    python benchmarks/regions.py --data SHARDS --model default --plain FOLDER --masked FOLDER

`--masked` and `--plain` are two models of equal budget, trained with and without masked documents:
what masks cost plain continuation. Without `--data`, some scores of music21 (no figures to keep).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bench import arguments, report
from held_out import (
    CONTEXT,
    HeldOut,
    Request,
    held_out,
    interval,
    left_out,
    part,
    plain,
    plain_nats,
    score,
    shards_or_music21,
    shown,
)

from musegen.api import Model
from musegen.tokens.events import EventTokenizer

SIZES = {"infill": (2, 4, 8), "accompany": (4, 8, 16), "continue": (4, 8, 16)}
"""Bars to write, for each task."""

AFTER = 4
"""Given bars behind an infilled window."""

TRIES = 40


def find_request(
    item: HeldOut, tokenizer: EventTokenizer, task: str, size: int, place: int = 0
) -> Request | None:
    """A place of the piece where a request of this size fits the context; None if none does."""
    rng = item.rng(task, size, place)
    for attempt in range(TRIES):
        before = {"infill": 4, "accompany": 0, "continue": 8}[task]
        if attempt % 2:
            before //= 2
        behind = AFTER if task == "infill" else 0
        total = before + size + behind
        if total > item.grid.num_bars:
            continue
        first = int(rng.integers(item.grid.num_bars - total + 1))
        grid = part(item.grid, first, first + total)
        window = slice(before, before + size)
        counts = grid.counts[window] if grid.num_tracks else np.zeros((size, 0), dtype=int)
        # Something to write, and (but for continuing) something else that sounds beside it.
        sounding = np.flatnonzero(counts.sum(0) >= max(2, size // 2))
        if len(sounding) < (1 if task == "continue" else 2):
            continue
        given = np.ones(grid.counts.shape, dtype=bool)
        if task == "continue":
            given[window] = False
        elif task == "accompany":
            given[:, rng.choice(sounding)] = False
        else:
            some = rng.permutation(sounding)[: rng.integers(1, 1 + max(1, len(sounding) // 2))]
            given[window, some] = False
        request = Request(item, first, grid, given)
        if len(request.document(tokenizer, shown(request))) <= CONTEXT:
            return request
    return None


def without_past(request: Request) -> Request:
    """A continuation that begins with its first open bar."""
    begin = int(np.flatnonzero(~request.given.all(axis=1))[0])
    tracks = np.arange(request.grid.num_tracks)
    cells = [
        request.grid.cell(bar, track)
        for bar in range(begin, request.grid.num_bars)
        for track in tracks.tolist()
    ]
    grid = type(request.grid)(
        meters=request.grid.meters[begin:],
        tempos=request.grid.tempos[begin:],
        programs=request.grid.programs,
        instances=request.grid.instances,
        notes=np.concatenate(cells),
        offsets=np.concatenate(([0], np.cumsum([len(cell) for cell in cells]))),
    )
    return Request(request.source, request.first_bar + begin, grid, request.given[begin:])


def losses(
    network: Any, tokenizer: EventTokenizer, task: str, requests: list[Request]
) -> dict[str, np.ndarray]:
    """By document: (requests,) nats of what is written, ends of cells among it."""
    orders: dict[str, Callable[[Request], Any]] = {
        "shown": lambda r: r.scored(tokenizer, shown(r)),
        "left out": lambda r: r.scored(tokenizer, left_out(r)),
        "plain": lambda r: r.scored(tokenizer, plain(r)),
    }
    if task == "infill":
        orders["after"] = lambda r: r.scored(tokenizer, shown(r, AFTER))
    if task == "continue":
        del orders["plain"]  # the same document as `shown`

        def bare(request: Request) -> Any:
            short = without_past(request)
            return short.scored(tokenizer, shown(short))

        orders["left out"] = bare
    return {
        name: score(network, [order(request) for request in requests]).sum(1)
        for name, order in orders.items()
    }


def per_piece(values: np.ndarray, requests: list[Request]) -> np.ndarray:
    """Sums over the requests of each piece, so that intervals are over pieces."""
    names = [(request.source.corpus, request.source.name) for request in requests]
    place = {name: index for index, name in enumerate(dict.fromkeys(names))}
    return np.bincount([place[name] for name in names], weights=values)


def compare(
    name: str, network: Any, tokenizer: EventTokenizer, pieces: list[HeldOut], places: int
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Lines of the table, and by task the gain of what is given over the better "without"."""
    rows, gains = [], {}
    for task, sizes in SIZES.items():
        pooled: list[tuple[np.ndarray, np.ndarray]] = []
        for size in sizes:
            found = [
                find_request(item, tokenizer, task, size, place)
                for item in pieces
                for place in range(places)
            ]
            requests = [request for request in found if request is not None]
            if not requests:
                continue
            notes = per_piece(np.array([request.notes for request in requests]), requests)
            nats = {
                order: per_piece(values, requests)
                for order, values in losses(network, tokenizer, task, requests).items()
            }
            line: dict[str, Any] = {
                "model": name,
                "task": task,
                "bars": size,
                "fit": f"{len(notes)}/{len(pieces)}",
                "requests": len(requests),
                "notes": int(notes.sum()),
            }
            for order in ("shown", "left out", "plain", "after"):
                have = order in nats
                line[order] = f"{nats[order].sum() / notes.sum():.3f}" if have else "-"
            for order in ("left out", "plain", "after"):
                line[f"{order} - shown"] = "-"
                if order in nats:
                    line[f"{order} - shown"] = "{:+.3f} ({:+.3f} {:+.3f})".format(
                        *interval(nats[order] - nats["shown"], notes)
                    )
            rows.append(line)
            least = min(
                (nats[order] for order in ("left out", "plain") if order in nats),
                key=lambda values: values.sum(),
            )
            pooled.append((least - nats["shown"], notes))
        if pooled:
            gain = interval(*(np.concatenate(column) for column in zip(*pooled, strict=True)))
            gains[task] = gain[1]  # the lower end of the interval
    return rows, gains


def main() -> None:
    parser = arguments(__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=None, help="a name or a folder")
    parser.add_argument("--places", type=int, default=3, help="requests a piece, task and size")
    parser.add_argument("--masked", type=Path, default=None, help="a model with masked documents")
    parser.add_argument("--plain", type=Path, default=None, help="its twin without them")
    parser.add_argument("--windows", type=int, default=300, help="pieces for --masked, --plain")
    options = parser.parse_args()
    ratios: dict[str, float] = {}
    goals: dict[str, float] = {}
    rows: list[dict[str, Any]] = []
    with shards_or_music21(options.data) as (shards, splits):
        tokenizer, pieces = held_out(shards, splits)
        if options.quick:
            pieces = pieces[:: max(1, len(pieces) // 6)][:6]
            options.places = 1
        print(f"{len(pieces)} pieces of {len({item.corpus for item in pieces})} corpora")
        for name in options.model or ["default"]:
            network = Model.from_pretrained(name, "cpu").network
            lines, gains = compare(Path(name).name, network, tokenizer, pieces, options.places)
            rows += lines
            for task in ("infill", "accompany"):
                if task in gains:
                    ratios[f"{Path(name).name} {task} gain, lower bound"] = gains[task]
                    goals[f"{Path(name).name} {task} gain, lower bound"] = 0.0
        if options.masked and options.plain:
            some = [item.piece for item in held_out(shards, splits, 1, options.windows)[1]]
            both = [
                plain_nats(Model.from_pretrained(path, "cpu").network, shards, tokenizer, some)
                for path in (options.masked, options.plain)
            ]
            (masked, notes), (flat, _) = both[0].T, both[1].T
            ratio, low, high = interval(masked, flat)
            print(
                f"plain continuation, {len(some)} pieces, {int(notes.sum()):,} notes: masked "
                f"{masked.sum() / notes.sum():.4f}, plain {flat.sum() / notes.sum():.4f} nats a "
                f"note; masked / plain {ratio:.4f}, 95% interval {low:.4f} to {high:.4f}"
            )
            ratios["plain over masked, continuing"] = 1 / ratio
            goals["plain over masked, continuing"] = 1 / 1.01
    met = report("regions", rows, ratios, goals)
    sys.exit(0 if met or options.quick else 1)


if __name__ == "__main__":
    main()
