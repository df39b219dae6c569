"""A set of pictures as a folder of arrays: what image models train on.

`index.json` says what it is; for each split `SPLIT.npy` (N, S, S) uint8, `SPLIT-style.npy` (N,)
and `SPLIT-words.npy` (N, W) hold pictures, styles and words, 0 for none, mapped when they are read;
`SPLIT.txt` has the names. Building removes near copies, and puts what resembles each other, or is
one glyph in several styles, into one split.

Letters: N pictures, S pixels of a side, W words of a picture.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from musegen.data.drawings import Drawing, folder_drawings, packaged_drawings
from musegen.data.image_cards import ImageCard
from musegen.data.splits import place_of
from musegen.errors import DataError, UsageError

__all__ = ["WORDS", "ImageSet", "build_images", "near_groups"]

WORDS = 8
"""Words that are kept of a picture (W), the rarer first: they say more."""

COPY = 0.003
"""Mean difference of two pictures, of 1 for black against white, below which one is left out."""

ALIKE = 0.04
"""Mean difference below which two pictures are in one split."""

FEW = 200
"""Of fewer pictures than so many, as many are held out as the card says, whatever the hash says."""

FEWEST = 8
"""Pictures that a set must have."""

OnProgress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class ImageSet:
    """A folder that `build_images` wrote."""

    folder: Path
    name: str
    size: int
    """Pixels of a side."""
    styles: tuple[str, ...]
    """Style k of the arrays is styles[k - 1]."""
    words: tuple[str, ...]
    """Word k of the arrays is words[k - 1]."""
    may_ship: bool
    counts: dict[str, int]
    """Pictures by split."""
    digest: str
    """sha256 over all pictures."""
    report: dict[str, Any] = field(default_factory=dict, compare=False)
    """What building left out."""
    ids: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False)
    """What the ids of `style` and `words` become, by kind, where they are those of a model."""

    @classmethod
    def open(cls, folder: str | Path) -> ImageSet:
        """Raises DataError: no such folder, or a damaged one."""
        path = Path(folder) / "index.json"
        try:
            data = json.loads(path.read_text("utf-8"))
            if data["kind"] != "images" or data["format"] != 1:
                raise ValueError("it is of another kind or version")
            return cls(
                folder=Path(folder),
                name=str(data["name"]),
                size=int(data["size"]),
                styles=tuple(map(str, data["styles"])),
                words=tuple(map(str, data["words"])),
                may_ship=bool(data["may_ship"]),
                counts={str(name): int(count) for name, count in data["counts"].items()},
                digest=str(data["digest"]),
                report=dict(data["report"]),
            )
        except FileNotFoundError:
            raise DataError(
                f"{folder} holds no set of pictures (no index.json); `musegen image train --out "
                "DIR` makes one in DIR/data"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} is damaged ({error}); build it again") from None

    def array(self, split: str, kind: str = "") -> np.ndarray:
        """Pictures (N, S, S), or of `kind` style (N,) or words (N, W), mapped."""
        path = self.folder / (f"{split}-{kind}.npy" if kind else f"{split}.npy")
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read ({error}); build the set again") from None
        if len(found) != self.counts.get(split, 0):
            raise DataError(f"{path} holds {len(found)} rows; build the set again")
        return self.ids[kind][found] if kind in self.ids else found

    def spoken(self, styles: Sequence[str], words: Sequence[str]) -> ImageSet:
        """The same pictures in the styles and words of a model, for it to be trained on.

        Names that the model has not are not told of a picture (0).
        """
        ids = {}
        for kind, own, known in (("style", self.styles, styles), ("words", self.words, words)):
            numbers = {name: 1 + k for k, name in enumerate(known)}
            ids[kind] = np.array([0, *(numbers.get(name, 0) for name in own)], dtype=np.int64)
        return replace(self, styles=tuple(styles), words=tuple(words), ids=ids)

    def names(self, split: str) -> list[str]:
        """The names of the pictures of a split."""
        return (self.folder / f"{split}.txt").read_text("utf-8").splitlines()

    def to_dict(self) -> dict[str, Any]:
        """What the ids of a model mean: for its checkpoint."""
        return {
            "kind": "images",
            "name": self.name,
            "format": 1,
            "size": self.size,
            "styles": list(self.styles),
            "words": list(self.words),
        }


def build_images(
    card: ImageCard,
    out: Path,
    source: Path,
    size: int = 32,
    on_progress: OnProgress | None = None,
) -> ImageSet:
    """Makes the set of a card.

    Args:
        card: what to read.
        out: the new folder.
        source: where the card's archives lie, or the folder of pictures.
        size: pixels of a side, 8 to 256, a power of two.
        on_progress: called as `on_progress(done, total, name)`.

    Raises:
        UsageError: another size, or a folder that exists.
        DataError: nothing to read, or too little.
    """
    if size not in (8, 16, 32, 64, 128, 256):
        raise UsageError(f"size {size}: pictures are 8, 16, 32, 64, 128 or 256 pixels wide")
    if out.exists():
        raise UsageError(f"{out} exists; choose another folder, or remove it")
    skipped: list[str] = []
    if card.packages:
        found = list(packaged_drawings(card, source, size, on_progress))
    else:
        found = list(folder_drawings(source, size, skipped, on_progress))
    if len(found) < FEWEST:
        raise DataError(f"{source} holds {len(found)} pictures; at least {FEWEST} are needed")
    images = np.stack([drawing.image for drawing in found])
    kept, group = near_groups(images, [drawing.group for drawing in found])
    drawings = [found[index] for index in kept]
    split = _splits(card, drawings, group[kept])
    styles = sorted({drawing.style for drawing in drawings})
    training = [d for d, name in zip(drawings, split, strict=True) if name == "train"]
    words, ranked = _vocabulary(training, card.common_words)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        digest, counts = hashlib.sha256(), {}
        for name in ("train", "valid", "test"):
            mine = [d for d, other in zip(drawings, split, strict=True) if other == name]
            counts[name] = len(mine)
            pictures = np.stack([d.image for d in mine]) if mine else images[:0]
            digest.update(pictures.tobytes())
            np.save(folder / f"{name}.npy", pictures)
            style = [1 + styles.index(d.style) for d in mine]
            np.save(folder / f"{name}-style.npy", np.array(style, dtype=np.int64))
            told = np.zeros((len(mine), WORDS), dtype=np.int64)
            for row, drawing in enumerate(mine):
                ids = sorted((ranked[w] for w in drawing.words if w in ranked), reverse=True)
                told[row, : min(WORDS, len(ids))] = ids[:WORDS]
            np.save(folder / f"{name}-words.npy", told)
            (folder / f"{name}.txt").write_text("".join(f"{d.name}\n" for d in mine), "utf-8")
        index = {
            "kind": "images",
            "format": 1,
            "name": card.name,
            "size": size,
            "styles": styles,
            "words": words,
            "may_ship": card.may_ship,
            "counts": counts,
            "digest": digest.hexdigest(),
            "report": {"read": len(found), "copies": len(found) - len(kept), "skipped": skipped},
        }
        (folder / "index.json").write_text(json.dumps(index, indent=1) + "\n", "utf-8")
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ImageSet.open(out)


def _splits(card: ImageCard, drawings: Sequence[Drawing], group: np.ndarray) -> list[str]:
    """The split of each drawing: by a hash of the first name of its group."""
    first: dict[int, str] = {}
    for drawing, number in zip(drawings, group.tolist(), strict=True):
        first[number] = min(first.get(number, drawing.group), drawing.group)
    sizes = Counter(group.tolist())
    largest = max(8, len(drawings) // 50)

    def one(number: int) -> str:
        if sizes[number] > largest:  # a few shapes that all resemble each other stay together
            return "train"
        place = place_of(first[number])
        if place < card.split.test:
            return "test"
        return "valid" if place < card.split.test + card.split.valid else "train"

    split = {number: one(number) for number in sizes}
    if len(drawings) < FEW:  # by chance none may be held out: the next in order are
        wanted = math.ceil(card.split.valid * len(drawings))
        held = sum(sizes[number] for number, name in split.items() if name == "valid")
        for number in sorted(split, key=lambda one: place_of(first[one])):
            if held >= wanted:
                break
            if split[number] == "train" and sizes[number] <= largest // 2:
                split[number] = "valid"
                held += sizes[number]
    return [split[number] for number in group.tolist()]


def _vocabulary(drawings: Iterable[Drawing], common: int) -> tuple[list[str], dict[str, int]]:
    """Words that enough drawings have, the most frequent first, and their ids from 1."""
    counts = Counter(word for drawing in drawings for word in drawing.words)
    words = [word for word, n in sorted(counts.items(), key=lambda i: (-i[1], i[0])) if n >= common]
    return words, {word: 1 + number for number, word in enumerate(words)}


def near_groups(images: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Which pictures are kept, and which belong together.

    Args:
        images: (N, S, S) uint8.
        names: of the group that each is of by its name.

    Returns:
        Indices of those that are no copy of an earlier one, and (N,) numbers of groups: connected
        by name, or by less than `ALIKE`.
    """
    count = len(images)
    flat = images.reshape(count, -1).astype(np.float32) / 255
    root = np.arange(count)

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = int(root[i])
        return i

    first: dict[str, int] = {}
    for index, name in enumerate(names):
        root[find(index)] = find(first.setdefault(name, index))
    kept = np.ones(count, dtype=bool)
    pixels = flat.shape[1]
    square = (flat**2).sum(1)
    for start in range(0, count, 512):
        rows = slice(start, min(start + 512, count))
        # The mean square difference is at most the mean difference (values are from 0 to 1).
        near = square[rows, None] + square[None] - 2 * flat[rows] @ flat.T < ALIKE * pixels
        for i, j in np.argwhere(near).tolist():
            i += start
            if j >= i:
                continue
            apart = float(np.abs(flat[i] - flat[j]).mean())
            if apart < COPY and kept[j]:
                kept[i] = False
            if apart < ALIKE:
                root[find(i)] = find(j)
    return np.flatnonzero(kept), np.array([find(i) for i in range(count)])
