"""What clients asked and what they were told, with times of one monotonic clock.

Written by `chaos.workload`, judged by `chaos.rules`. Must not know protocols, proxies' insides or rules.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import Enum
from math import inf


class Outcome(Enum):
    """What a client knows about a request."""

    OK = "ok"
    FAIL = "fail"
    """An error that says that nothing was applied, or a read that got none of its answer."""
    UNKNOWN = "unknown"
    """An error that says so, a lost connection, or silence: it may have been applied, now or later."""


class Kind(Enum):
    """What was asked. A key is asked one sort of write only: SET and DELETE, INCR, or APPEND."""

    SET = "set"
    DELETE = "delete"
    INCR = "incr"
    """By 1; `Op.value` is the number that was answered."""
    APPEND = "append"
    """Of one element that is appended nowhere else."""
    GET = "get"
    """`Op.value` is what was found: bytes of a SET, the number of a counter, the elements of a list."""

    @property
    def is_write(self) -> bool:
        """Whether it may change the key."""
        return self is not Kind.GET


Value = bytes | int | tuple[bytes, ...] | None


@dataclass(slots=True)
class Op:
    """One request of one client.

    Args:
        value: what was written, or what was answered; None for an absent key.
        proxy: the number of the proxy it went through.
        session: the number of the connection. Requests of one connection act in their order.
        begin, end: seconds; ``end`` stays infinite where no answer came.
        text: the error, word for word; ``closed`` if the connection ended first.
        is_odd: the error is none of those the proxy or the server is known to give.
        is_final: a read after everything has come to rest.
        is_part: a key of a request over shards, which is answered without it where its shard is lost.
    """

    kind: Kind
    key: bytes
    value: Value
    proxy: int
    session: int
    begin: float
    end: float = inf
    outcome: Outcome = Outcome.UNKNOWN
    text: str = ""
    is_odd: bool = False
    is_final: bool = False
    is_part: bool = False

    def __str__(self) -> str:
        value = self.value
        if isinstance(value, tuple):
            shown = f"{len(value)} elements ..{b' '.join(value[-3:]).decode()}"
        else:
            shown = value.decode() if isinstance(value, bytes) else str(value)
        text = f" {self.text}" if self.text else ""
        return (
            f"{self.begin:9.4f}..{self.end:9.4f} proxy {self.proxy} session {self.session}: "
            f"{self.kind.value} {self.key.decode()} {shown} {self.outcome.value}{text}"
        )


@dataclass(slots=True)
class History:
    """All requests, each entered when it is sent, so that those of one connection stand in their order.

    Threads append without a lock, which a list allows.
    """

    ops: list[Op] = field(default_factory=list)

    def add(self, op: Op) -> Op:
        """Enters a request that is about to be sent; its fields are completed when the answer comes."""
        self.ops.append(op)
        return op

    def by_key(self) -> dict[bytes, list[Op]]:
        """The requests of each key, in the order they were entered."""
        found: dict[bytes, list[Op]] = defaultdict(list)
        for op in self.ops:
            found[op.key].append(op)
        return dict(found)
