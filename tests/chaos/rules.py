"""What no history may show: one function per rule, from values to violations, without IO.

Called by `chaos.run` and by the tests of the rules. The rules are about what was *acknowledged*: two reads
may see an unacknowledged write come and go, an acknowledged one must be in every later answer. Where the
proxy promises less, `Promises` says so; it is part of a schedule, never adapted to what was found.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from chaos.history import History, Kind, Op, Outcome

EXCERPT_OPS = 12
"""Requests of the key shown with a violation, the last before it ended."""
ABSENT = (None, ())
"""What is read where the key is not; a list has no elements."""


@dataclass(frozen=True, slots=True)
class Promises:
    """What may be expected of a run.

    Args:
        may_vanish: the servers evict, so that any key may be absent at any time; nothing else is excused.
        may_come_late: a write of unknown outcome may even be applied after later ones of its connection were
            acknowledged: a network may hand over what it held back when the proxy has long made a new
            connection. Where a shard has replicas, one that this happens to is out of sync by then, unless it
            is the last copy (``blackouts``).
        grace_seconds: how much later than its acknowledgement a write through one proxy must show through
            another: a proxy adopts a view that another made at its next probe (README, "No stale reads").
        reads_go_on: one in-sync backend was reachable all the time, so no read may fail.
        interruptions: ``(proxy, from, to)``: when its clients may have lost their connections.
        blackouts: ``(from, to)``: when no copy of some shard was reachable, so reads may fail, and a write of
            unknown outcome may be applied once the last one goes on.
    """

    may_vanish: bool = False
    may_come_late: bool = False
    grace_seconds: float = 0.0
    reads_go_on: bool = True
    interruptions: tuple[tuple[int, float, float], ...] = ()
    blackouts: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """A rule, the key it was broken for, how, and the requests that show it."""

    rule: str
    key: bytes
    text: str
    ops: tuple[Op, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.rule}: {self.key.decode(errors='replace')}: {self.text}"]
        return "\n".join(lines + [f"    {op}" for op in self.ops])


Rule = Callable[[Sequence[Op], Promises], Iterator[Violation]]


def check(history: History, promises: Promises) -> list[Violation]:
    """All violations of all rules, in the order of the keys."""
    found: list[Violation] = []
    for op in history.ops:
        may_be_lost = not promises.reads_go_on or _is_dark(op, promises)
        if op.is_part and op.value is None and may_be_lost:
            op.outcome = Outcome.FAIL
    for _, ops in sorted(history.by_key().items()):
        for rule in RULES:
            found.extend(rule(ops, promises))
    return found


# Registers: SET and DELETE.


def registers(ops: Sequence[Op], promises: Promises) -> Iterator[Violation]:
    """Every read shows a write that it may show.

    A write may be shown from its beginning until the acknowledgement of a write that came after it. With one
    writer that leaves the last acknowledged write and what was not yet answered; with several, any order of
    those that overlapped. A write of unknown outcome may come late, but not after a later one of its own
    connection was acknowledged: those act in order.
    """
    writes = [op for op in ops if op.kind in (Kind.SET, Kind.DELETE)]
    if not writes or any(op.kind in (Kind.INCR, Kind.APPEND) for op in ops):
        return
    until = _superseded_at(writes, promises)
    by_value: dict[object, list[int]] = defaultdict(list)
    for position, write in enumerate(writes):
        by_value[write.value if write.kind is Kind.SET else None].append(position)
    for read in _answered_reads(ops):
        if read.value is None and promises.may_vanish:
            continue
        shown = by_value.get(read.value, [])
        seen = read.begin - _grace(read, writes, promises)
        if any(
            _may_show(writes[at], read, promises) and writes[at].begin <= read.end and until[at] >= seen
            for at in shown
        ):
            continue
        if read.value is None and not any(_acknowledged_before(write, seen) for write in writes):
            continue  # nobody had written it yet
        possible = [writes[at] for at in shown if _may_show(writes[at], read, promises)]
        if shown and not possible:
            refused = writes[shown[-1]]
            text = f"shows a write whose error said that it was not applied: {refused.text}"
            yield _violation("dishonest error", read, text, ops, refused)
            continue
        yield _judge_register(read, possible, writes, until, shown, ops)


def _judge_register(
    read: Op, shown: list[Op], writes: list[Op], until: list[float], positions: list[int], ops: Sequence[Op]
) -> Violation:
    """Says what is wrong with a read that no write explains."""
    if not shown and read.value is not None:
        return _violation("impossible read", read, "a value that nobody has written", ops)
    if shown and all(op.begin > read.end for op in shown):
        return _violation("impossible read", read, "shows a write that had not been sent", ops, shown[0])
    name = "lost write" if read.is_final else "stale read"
    newer = [op for op in writes if _acknowledged_before(op, read.begin)]
    last = max(newer, key=lambda op: op.begin, default=None)
    ago = read.begin - max((until[at] for at in positions), default=0.0)
    text = f"what it shows was superseded {ago:.4f} s before it began"
    return _violation(name, read, text, ops, *([last] if last else []))


def _superseded_at(writes: list[Op], promises: Promises) -> list[float]:
    """For each write, when the first write that surely came after it was acknowledged."""
    acknowledged = sorted((op.begin, op.end) for op in writes if op.outcome is Outcome.OK)
    begins = [begin for begin, _ in acknowledged]
    earliest = [inf] * (len(acknowledged) + 1)
    for at in range(len(acknowledged) - 1, -1, -1):
        earliest[at] = min(earliest[at + 1], acknowledged[at][1])
    own: dict[int, float] = {}
    until = [inf] * len(writes)
    for at in range(len(writes) - 1, -1, -1):
        write = writes[at]
        if write.outcome is Outcome.OK or not _may_come_late(write, promises):
            until[at] = own.get(write.session, inf)
        if write.outcome is Outcome.OK:
            until[at] = min(until[at], earliest[bisect_right(begins, write.end)])
            own[write.session] = min(own.get(write.session, inf), write.end)
    return until


def agreement(ops: Sequence[Op], promises: Promises) -> Iterator[Violation]:
    """While no write is under way, everybody reads the same.

    This is what writers that raced leave behind: the rule above accepts either value, but not both.
    """
    refused_may_show = promises.grace_seconds > 0
    writes = [op for op in ops if op.kind.is_write and (refused_may_show or op.outcome is not Outcome.FAIL)]
    edges = sorted((op.begin, _over(op, promises)) for op in writes)
    reads = sorted(_answered_reads(ops), key=lambda op: op.begin)
    calm_since, at, previous = -inf, 0, None
    for read in reads:
        while at < len(edges) and edges[at][0] <= read.end:
            calm_since = max(calm_since, edges[at][1])
            at += 1
            previous = None
        if read.begin <= calm_since + _grace(read, writes, promises):
            continue
        if read.value in ABSENT and promises.may_vanish:
            continue
        if previous is not None and previous.value != read.value:
            yield _violation("disagreement", read, "nobody wrote between these two reads", ops, previous)
        previous = read


# Counters: INCR.


def counters(ops: Sequence[Op], promises: Promises) -> Iterator[Violation]:
    """A counter lies between the increments acknowledged before it was asked and those begun by its answer.

    And no two increments got the same answer.
    """
    writes = [op for op in ops if op.kind is Kind.INCR]
    if not writes:
        return
    ends = sorted(op.end for op in writes if op.outcome is Outcome.OK)
    begins = sorted(op.begin for op in writes if op.outcome is not Outcome.FAIL)
    refused = [op for op in writes if op.outcome is Outcome.FAIL]
    answers: dict[int, Op] = {}
    for op in ops:
        if op.outcome is not Outcome.OK or op.kind not in (Kind.INCR, Kind.GET):
            continue
        if op.value is None and promises.may_vanish:
            continue
        is_read = op.kind is Kind.GET
        least = bisect_right(ends, op.begin - _grace(op, writes, promises)) + (not is_read)
        most = bisect_right(begins, op.end)
        most += sum(is_read and write.begin <= op.end and _may_show(write, op, promises) for write in refused)
        value = op.value if isinstance(op.value, int) else 0
        if value < least and not promises.may_vanish:
            name = "lost write" if op.is_final else "stale read" if is_read else "stale increment"
            yield _violation(name, op, f"at least {least} were acknowledged before", ops)
        elif value > most:
            yield _violation("double increment", op, f"at most {most} can have been applied", ops)
        if not is_read and value in answers and not promises.may_vanish:
            yield _violation("repeated answer", op, "another got the same", ops, answers[value])
        elif not is_read:
            answers[value] = op


# Lists: APPEND.


def lists(ops: Sequence[Op], promises: Promises) -> Iterator[Violation]:
    """A list holds each acknowledged element once, in the order of acknowledgement, and no refused one."""
    writes = [op for op in ops if op.kind is Kind.APPEND]
    if not writes:
        return
    by_value: dict[object, Op] = {op.value: op for op in writes}
    acknowledged = [op for op in writes if op.outcome is Outcome.OK]
    for read in _answered_reads(ops):
        elements = read.value if isinstance(read.value, tuple) else ()
        if not elements and promises.may_vanish:
            continue
        yield from _judge_list(read, elements, by_value, ops, promises)
        present = set(elements)
        seen = read.begin - _grace(read, writes, promises)
        missing = [op for op in acknowledged if op.end < seen and op.value not in present]
        if missing and not promises.may_vanish:
            name = "lost write" if read.is_final else "stale read"
            text = f"{len(missing)} acknowledged elements are missing"
            yield _violation(name, read, text, ops, *missing[:3])


def _judge_list(
    read: Op, elements: Sequence[bytes], by_value: Mapping[object, Op], ops: Sequence[Op], promises: Promises
) -> Iterator[Violation]:
    """What is there, whatever should be there as well."""
    last: dict[int, int] = {}
    entered = {id(op): at for at, op in enumerate(ops)}
    newest_begin, newest = -inf, None
    for element in elements:
        op = by_value.get(element)
        if op is None or op.begin > read.end:
            yield _violation("impossible read", read, f"{element!r} was not sent", ops)
            return
        if not _may_show(op, read, promises):
            text = f"holds an element whose error said that it was not applied: {op.text}"
            yield _violation("dishonest error", read, text, ops, op)
            return
        if _may_come_late(op, promises):
            continue
        is_behind = op.outcome is Outcome.OK and op.end < newest_begin
        if is_behind or last.get(op.session, -1) > entered[id(op)]:
            extra = [op, newest] if is_behind and newest else [op]
            yield _violation("wrong order", read, f"{element!r} stands behind a later one", ops, *extra)
            return
        last[op.session] = entered[id(op)]
        if op.begin > newest_begin:
            newest_begin, newest = op.begin, op
    if len(set(elements)) != len(elements):
        twice = sorted({element for element in elements if elements.count(element) > 1})
        yield _violation("applied twice", read, f"{twice[:3]!r}", ops)


# Answers.


def answers(ops: Sequence[Op], promises: Promises) -> Iterator[Violation]:
    """Errors are known ones, connections stay open, and reads do not fail while somebody can answer them."""
    for op in ops:
        if op.outcome is Outcome.OK or _is_interrupted(op, promises):
            continue
        if op.is_odd:
            yield Violation("odd error", op.key, op.text, (op,))
        elif op.text == "closed":
            yield Violation("closed", op.key, "the proxy closed the connection", (op,))
        elif op.text == "silence":
            yield Violation("silence", op.key, "neither an answer nor an error", (op,))
        elif op.kind is Kind.GET and promises.reads_go_on and not _is_dark(op, promises):
            yield Violation("failed read", op.key, "an in-sync backend could have answered", (op,))


RULES: tuple[Rule, ...] = (registers, agreement, counters, lists, answers)


# Copies.


def divergence(
    copies: Mapping[str, Mapping[bytes, object]], excused: Iterable[bytes] = ()
) -> list[Violation]:
    """Keys that in-sync backends of one shard hold differently once nothing is under way.

    Args:
        copies: by backend, what it holds: values that compare.
        excused: keys whose last write a killed proxy left half done; nobody is left who could know of it.
    """
    found = []
    names = sorted(copies)
    for key in sorted(set().union(*copies.values()) - set(excused)):
        values = [copies[name].get(key) for name in names]
        if any(value != values[0] for value in values):
            text = "; ".join(f"{name}: {value!r:.300}" for name, value in zip(names, values, strict=True))
            found.append(Violation("divergence", key, text))
    return found


def unfinished(history: History, interruptions: Iterable[tuple[int, float, float]]) -> set[bytes]:
    """Keys with a write whose outcome is unknown because its proxy was killed."""
    killed = tuple(interruptions)
    return {
        op.key
        for op in history.ops
        if op.kind.is_write
        and op.outcome is Outcome.UNKNOWN
        and _is_interrupted(op, Promises(interruptions=killed))
    }


# Common.


def _answered_reads(ops: Sequence[Op]) -> Iterator[Op]:
    return (op for op in ops if op.kind is Kind.GET and op.outcome is Outcome.OK)


def _over(write: Op, promises: Promises) -> float:
    """When a write is certainly not under way any more."""
    return inf if _may_come_late(write, promises) else write.end


def _may_come_late(write: Op, promises: Promises) -> bool:
    return write.outcome is Outcome.UNKNOWN and (promises.may_come_late or _is_dark(write, promises))


def _acknowledged_before(write: Op, moment: float) -> bool:
    return write.outcome is Outcome.OK and write.end < moment


def _grace(read: Op, writes: Sequence[Op], promises: Promises) -> float:
    """A read through another proxy than a write may lag. No write: no leader that has left decides it."""
    may_lag = read.kind is Kind.GET and not read.is_final
    is_other = may_lag and any(write.proxy != read.proxy for write in writes)
    return promises.grace_seconds if is_other else 0.0


def _may_show(write: Op, read: Op, promises: Promises) -> bool:
    """What was refused must not show, except through a proxy that has not yet heard that its leader has left:
    that one alone had applied it, so it was not made, and whoever follows the old view still reads there."""
    is_other = read.proxy != write.proxy and not read.is_final
    return write.outcome is not Outcome.FAIL or (
        is_other and read.begin <= write.end + promises.grace_seconds and promises.grace_seconds > 0
    )


def _is_dark(op: Op, promises: Promises) -> bool:
    return any(op.begin <= to and op.end >= since for since, to in promises.blackouts)


def _is_interrupted(op: Op, promises: Promises) -> bool:
    return any(
        op.proxy == proxy and op.begin <= to and op.end >= since
        for proxy, since, to in promises.interruptions
    )


def _violation(rule: str, op: Op, text: str, ops: Sequence[Op], *others: Op) -> Violation:
    around = [each for each in ops if each.begin <= op.end and each is not op][-EXCERPT_OPS:]
    shown = sorted({id(each): each for each in (*around, *others, op)}.values(), key=lambda each: each.begin)
    return Violation(rule, op.key, text, tuple(shown))
