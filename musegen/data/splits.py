"""Who goes to train, valid and test: whole groups, by a hash of their name.

A hash and not a shuffle: adding files to a corpus leaves the others where they were.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from musegen.data.cards import SplitRule
from musegen.data.corpus import Item

LARGEST_HELD_OUT = 0.25
"""A group that is more of its corpus than this stays in train, whatever its hash says."""


def place_of(key: str) -> float:
    """A number in [0, 1) that depends on the key alone."""
    digest = hashlib.sha256(key.encode("utf-8")).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def assign_splits(
    items: Sequence[Item],
    rows: Sequence[int],
    component: Sequence[int],
    rules: Mapping[str, SplitRule],
) -> tuple[list[str], list[str]]:
    """The split and the group key of each item.

    `component[i]` is the index of the first item of i's connected group (same group key, or a
    near-duplicate of one of them). A group goes where its key's hash falls among the shares of its
    first item's corpus. An item whose file says its split keeps it (a benchmark's published split),
    and draws its group's other items along: to test rather than valid, to valid rather than train.
    A corpus of two groups or more whose rule has a valid share gets at least
    one, the group with the smallest hash.
    """
    members: dict[int, list[int]] = {}
    for index, root in enumerate(component):
        members.setdefault(root, []).append(index)
    total: dict[str, int] = {}
    for item, count in zip(items, rows, strict=True):
        total[item.corpus] = total.get(item.corpus, 0) + count
    key = {
        root: min(f"{items[i].corpus}/{items[i].group}" for i in group)
        for root, group in members.items()
    }
    share = {
        root: sum(rows[i] for i in group) / max(1, total[items[root].corpus])
        for root, group in members.items()
    }
    chosen: dict[int, str] = {}
    for root, group in members.items():
        fixed = {items[i].split for i in group} - {""}
        rule = rules[items[root].corpus]
        place = place_of(key[root])
        if fixed:
            chosen[root] = next(s for s in ("test", "valid", "train") if s in fixed)
        elif share[root] > LARGEST_HELD_OUT and len(members) > 1:
            chosen[root] = "train"
        elif place < rule.test:
            chosen[root] = "test"
        elif place < rule.test + rule.valid:
            chosen[root] = "valid"
        else:
            chosen[root] = "train"
    for corpus, rule in rules.items():
        roots = [root for root in members if items[root].corpus == corpus]
        if rule.valid > 0 and len(roots) > 1 and "valid" not in {chosen[r] for r in roots}:
            small = [root for root in roots if share[root] <= LARGEST_HELD_OUT]
            free = [root for root in small or roots if chosen[root] == "train"]
            if free:
                chosen[min(free, key=lambda root: place_of(key[root]))] = "valid"
        free = [root for root in roots if not any(items[i].split for i in members[root])]
        if free and rule.train > 0 and "train" not in {chosen[root] for root in roots}:
            chosen[max(free, key=lambda root: share[root])] = "train"
    splits = [item.split or chosen[root] for item, root in zip(items, component, strict=True)]
    return splits, [key[root] for root in component]
