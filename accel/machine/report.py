"""Turns error codes of the interpreter into errors that name node, thread, semaphore and the author's line."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from accel.errors import AccelError, BoundsError, DeadlockError, Finding, InternalError, Location, ProgramError
from accel.isa import layout as w
from accel.isa.fitting import location
from accel.isa.table import BY_OPCODE
from accel.machine import words as s

if TYPE_CHECKING:
    from accel.isa.program import Program

__all__ = ["failure", "semaphore_name", "thread_name"]

NAMED_NODES = 4  # nodes written out in a message before "and more"


def semaphore_name(program: Program, index: int) -> str:
    """Return `name` or `name[i]` of a semaphore index."""
    for semaphore in program.semaphores:
        if semaphore.index <= index < semaphore.index + semaphore.count:
            return semaphore.name if semaphore.count == 1 else f"{semaphore.name}[{index - semaphore.index}]"
    return f"semaphore {index}"


def thread_name(program: Program, node: int, thread: int) -> str:
    """Return the author's name of a hardware thread of a node."""
    role = int(program.role_of[node])
    names = program.thread_names[role] if 0 <= role < len(program.thread_names) else ()
    return names[thread] if thread < len(names) and names[thread] else f"thread {thread}"


def _nodes(program: Program, nodes: list[int]) -> str:
    named = ", ".join(str(program.node(n)) for n in nodes[:NAMED_NODES])
    more = f" and {len(nodes) - NAMED_NODES} more" if len(nodes) > NAMED_NODES else ""
    return f"node{'s' if len(nodes) > 1 else ''} {named}{more}"


def _deadlock(program: Program, threads: Any, sems: Any, groups: Any) -> DeadlockError:
    waits: dict[tuple[str, int, str], list[int]] = defaultdict(list)
    for i in range(len(threads)):
        status = int(threads[i, s.S_STATUS])
        if status not in (s.WAITING, s.JOINING):
            continue
        node, thread = divmod(i, program.threads)
        if status == s.WAITING:
            row, sem, need = int(threads[i, s.S_PC]), int(threads[i, s.S_SEM]), int(threads[i, s.S_COUNT])
            what = f"waits for {semaphore_name(program, sem)} >= {need}, which is {int(sems[node, sem])}"
        else:
            row, group = int(threads[i, s.S_PC]) - 1, groups[int(threads[i, s.S_GROUP])]
            what = f"waits at a barrier that {int(group[4])} of {int(group[5])} nodes have reached"
        waits[thread_name(program, node, thread), row, what].append(node)
    findings = []
    for (name, row, what), nodes in sorted(waits.items(), key=lambda item: (item[0][1], item[0][2])):
        at = location(program, row)
        where = f" at {at}" if at else f" at row {row}"
        text = f"thread {name!r}{where} {what}, on {_nodes(program, nodes)}"
        findings.append(Finding("deadlock", text, at, None, tuple(program.node(n) for n in nodes)))
    more = f"; {len(findings) - 1} more kinds of wait are in findings" if len(findings) > 1 else ""
    text = f"deadlock: {findings[0].message}{more}; give every wait a matching inc or copy"
    return DeadlockError(text, findings, at=findings[0].first)


def _view(program: Program, view: int) -> tuple[str, int, int]:
    """Return (what it names, first byte, one past last byte) of the object of a view."""
    item = program.views[view]
    index = int(item[w.V_OBJECT])
    if item[w.V_SPACE] == w.SPACE_SRAM:
        buffer = program.buffers[index]
        return f"buffer {buffer.name!r}", buffer.offset, buffer.offset + buffer.nbytes
    tensor = program.tensors[index]
    return f"tensor {tensor.name!r}", tensor.address, tensor.address + tensor.nbytes


def failure(program: Program, error: Any, threads: Any, sems: Any, groups: Any, *, limit: int,
            shard: bool = False) -> AccelError:  # fmt: skip
    """Return the error that an error row of the interpreter stands for."""
    code, node, row = int(error[0]), int(error[s.F_NODE]), int(error[s.F_ROW])
    if code == s.DEADLOCK:
        return _deadlock(program, threads, sems, groups)
    at: Location | None
    if shard:
        line = int(program.shards[row, w.H_LINE])
        at, name = program.lines[line] if 0 <= line < len(program.lines) else None, "shard"
    else:
        at, name = location(program, row), BY_OPCODE[int(program.code[row, w.W_OPCODE])].mnemonic
    where = f"{name} (row {row}) on node {program.node(node)}"
    a, b = int(error[s.F_A]), int(error[s.F_B])
    if code in (s.BOUNDS, s.ALIGNMENT):
        what, begin, end = _view(program, a)
        if code == s.ALIGNMENT:
            return ProgramError(f"{where} uses byte {b} of {what}, which splits an element; use whole elements", at=at)
        return BoundsError(
            f"{where} leaves {what}: its view starts at byte {b}, the object is bytes {begin} to {end}; "
            "keep every view inside one buffer or tensor",
            at=at,
        )
    if code == s.SEMAPHORE:
        return ProgramError(f"{where} names semaphore {a} of {sems.shape[1]}; use one that the program has", at=at)
    if code == s.OVERFLOW:
        holder = program.node(int(error[s.F_C]))
        return ProgramError(
            f"{where} raises {semaphore_name(program, a)} of node {holder} to {b}, more than its limit of {limit}; "
            "wait for tokens before sending more",
            at=at,
        )
    if code == s.TARGET:
        return ProgramError(
            f"{where} names a target outside the mesh; a store names its own node, a pull one node", at=at
        )
    if code == s.INDEX:
        return BoundsError(
            f"{where} takes row {a} of a table of {b}: element {int(error[s.F_C])} of its index; "
            f"keep every index in 0 to {b - 1}",
            at=at,
        )
    if code == s.COUNT:
        return ProgramError(f"{where} has a count of {a}; counts and trips cannot be negative", at=at)
    if code == s.GROUPS:
        return ProgramError(f"{where} is one barrier rectangle too many; use fewer different rectangles", at=at)
    if code == s.MEMBER:
        return ProgramError(f"{where} joins a barrier of nodes that it is not one of; correct its target", at=at)
    return InternalError(f"the executor stopped with code {code} in {where}; please report this program")
