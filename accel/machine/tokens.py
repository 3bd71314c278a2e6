"""Tokens and barriers: what lets a waiting thread go on."""

from __future__ import annotations

from typing import Any

from accel.machine import words as s
from accel.machine.inner import inner
from accel.machine.raw import peek, poke
from accel.machine.schedule import ready

__all__ = ["add_tokens", "join"]


@inner
def add_tokens(threads: Any, sems: Any, queue: Any, config: Any, node: int, sem: int, count: int, error: Any) -> None:
    """Add tokens to a semaphore and make its waiters ready that can go on now."""
    at = node * sems.shape[1] + sem
    total = peek(sems, at) + count
    poke(sems, at, total)
    if total > peek(config, s.C_LIMIT):
        error[0], error[s.F_A], error[s.F_B], error[s.F_C] = s.OVERFLOW, sem, total, node
        return
    per_node = peek(config, s.C_THREADS)
    for thread in range(node * per_node, (node + 1) * per_node):
        row = thread * s.THREAD_WORDS
        waits = peek(threads, row + s.S_STATUS) == s.WAITING and peek(threads, row + s.S_SEM) == sem
        if waits and total >= peek(threads, row + s.S_COUNT):
            ready(threads, queue, config, thread)


@inner
def _group(groups: Any, roles: Any, config: Any, rect: Any) -> Any:
    """Return the barrier of a rectangle, a new one if need be; -1 if there are too many."""
    count = config[s.C_GROUPS]
    for group in range(count):
        same = True
        for i in range(4):
            same = same and groups[group, i] == rect[i]
        if same:
            return group
    if count == groups.shape[0]:
        return -1
    config[s.C_GROUPS] = count + 1
    members = 0
    for r in range(rect[0], rect[1] + 1):
        for c in range(rect[2], rect[3] + 1):
            members += 1 if roles[r * config[s.C_COLS] + c] >= 0 else 0
    for i in range(4):
        groups[count, i] = rect[i]
    groups[count, 4], groups[count, 5] = 0, members
    return count


@inner
def join(threads: Any, groups: Any, roles: Any, queue: Any, config: Any, node: int, thread: int, rect: Any,
         error: Any) -> None:  # fmt: skip
    """Let a thread arrive at the barrier of a rectangle; release one thread of every node once all are there.

    Nodes without a role take no part. A second thread of a node waits for the next round.
    """
    row, col = node // config[s.C_COLS], node % config[s.C_COLS]
    if row < rect[0] or row > rect[1] or col < rect[2] or col > rect[3]:
        error[0] = s.MEMBER
        return
    group = _group(groups, roles, config, rect)
    if group < 0:
        error[0] = s.GROUPS
        return
    per_node = config[s.C_THREADS]
    first = True
    for other in range(node * per_node, (node + 1) * per_node):
        if threads[other, s.S_STATUS] == s.JOINING and threads[other, s.S_GROUP] == group:
            first = False
    threads[thread, s.S_STATUS], threads[thread, s.S_GROUP] = s.JOINING, group
    if first:
        groups[group, 4] += 1
    if groups[group, 4] < groups[group, 5]:
        return
    groups[group, 4] = 0
    for r in range(rect[0], rect[1] + 1):
        for c in range(rect[2], rect[3] + 1):
            start = (r * config[s.C_COLS] + c) * per_node
            found = 0
            for other in range(start, start + per_node):
                if threads[other, s.S_STATUS] == s.JOINING and threads[other, s.S_GROUP] == group:
                    found += 1
                    if found == 1:
                        ready(threads, queue, config, other)
            groups[group, 4] += 1 if found > 1 else 0
