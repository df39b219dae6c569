"""Who goes to train, valid and test: whole groups, by a hash of their name.

A hash and not a shuffle: adding files to a corpus leaves the others where they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from musegen.data.cards import SplitRule
from musegen.data.corpus import Item

SPLITS = ("train", "valid", "test")
TRAIN, VALID, TEST = range(3)

LARGEST_HELD_OUT = 0.25
"""A group that is more of its corpus than this stays in train, whatever its hash says."""


def place_of(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def assign_splits(
    items: Sequence[Item],
    rows: Sequence[int] | np.ndarray,
    component: Sequence[int] | np.ndarray,
    rules: Mapping[str, SplitRule],
) -> tuple[np.ndarray, np.ndarray]:
    """The split of each item, as a number into `SPLITS`, and which item names its group.

    `component[i]` is the index of the first item of i's connected group (same group key, or a
    near-duplicate of one of them). A group goes where its key's hash falls among the shares of its
    first item's corpus; its key is the smallest `group_key` of its items. An item whose file says
    its split keeps it (a benchmark's published split), and draws its group's other items along: to
    test rather than valid, to valid rather than train. A corpus of two groups or more whose rule
    has a valid share gets at least one, the group with the smallest hash.

    Items are asked for one at a time, once; some 60 bytes of each stay in memory.
    """
    count = len(items)
    component, rows = np.asarray(component, np.int64), np.asarray(rows, np.int64)
    names = list(rules)
    numbers = {name: number for number, name in enumerate(names)}
    corpus = np.zeros(count, np.int64)
    fixed = np.zeros(count, np.int8)  # 0: not; else 1 + the number of the split
    keyed = np.arange(count)
    several = np.bincount(component, minlength=count)[component] > 1
    keys: dict[int, str] = {}  # of groups of several items, so far
    places = np.zeros(count)
    for index, item in enumerate(items):
        corpus[index] = numbers[item.corpus]
        fixed[index] = 1 + SPLITS.index(item.split) if item.split else 0
        root, key = int(component[index]), group_key(item)
        if several[index]:
            if root in keys and keys[root] <= key:
                continue
            keys[root] = key
        keyed[root], places[root] = index, place_of(key)
    roots = np.unique(component)
    of_root = corpus[roots]
    weights = np.bincount(component, rows, minlength=count)[roots]
    share = weights / np.maximum(1, np.bincount(corpus, rows, minlength=len(names)))[of_root]
    drawn = np.zeros(count, np.int8)
    np.maximum.at(drawn, component, fixed)  # test before valid before train
    drawn, places = drawn[roots], places[roots]
    test = np.array([rules[name].test for name in names])[of_root]
    valid = np.array([rules[name].valid for name in names])[of_root]
    chosen = np.where(places < test, TEST, np.where(places < test + valid, VALID, TRAIN))
    if len(roots) > 1:
        chosen[share > LARGEST_HELD_OUT] = TRAIN
    chosen = np.where(drawn > 0, drawn - 1, chosen)
    for name, rule in rules.items():
        here = np.flatnonzero(of_root == numbers[name])
        if rule.valid > 0 and len(here) > 1 and VALID not in chosen[here]:
            small = here[share[here] <= LARGEST_HELD_OUT]
            free = small if len(small) else here
            free = free[chosen[free] == TRAIN]
            if len(free):
                chosen[free[np.argmin(places[free])]] = VALID
        free = here[drawn[here] == 0]
        if len(free) and rule.train > 0 and TRAIN not in chosen[here]:
            chosen[free[np.argmax(share[free])]] = TRAIN
    group = np.searchsorted(roots, component)
    return np.where(fixed > 0, fixed - 1, chosen[group]).astype(np.int8), keyed[component]


def group_key(item: Item) -> str:
    """Of an item by itself."""
    return f"{item.corpus}/{item.group}"
