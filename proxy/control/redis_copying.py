"""How a Redis is copied without REPLICAOF: requests, and what to think of an answer. Values only.

Called by `proxy.tasks.redis_copying`. The procedure and the rest of why it is right are in
`proxy.control.copying`; here the copy of one key. Must not know sockets, tasks or the clock.

    fetch   DUMP and PEXPIRETIME from the leader, at one instant
    add     RESTORE without REPLACE on the target: BUSYKEY says that something is there
    verify  DUMP and PEXPIRETIME from the leader again; anything else than before is a change
    undo    DEL on the target of what has changed, or of what is there and not known to be right; and again

SCAN returns every key that is there from its begin to its end; a key that comes later is a write, and comes
to the target by itself.

Values are compared, where Memcached has tokens. If the leader holds at v what it held at f, the last write
that it carried out before v left just that; whatever happened in between does not matter.

DUMP has no canonical form: a hash or a set shows its members in an order that is each server's own. So
payloads of two servers may differ for equal values, and nothing is concluded from it but that the key is to
be copied again. That is always right, since undo needs no condition: what a write that the target had at
t2 < d left there, and the DEL at d removes, the leader has had since t1 < t2, so the fetch that follows has
it or something newer. And it ends: behind the DEL only a write can bring the key back, or the next add.

Something else than such writes may stand on the target: what came while not every proxy knew of E+1, an
unverified copy of a proxy that died or of a batch that broke off (`Doubts`). So all names on the target are
gone through first, before the leader's, and what both hold is compared, the target's state first, then the
leader's: a write in between reaches the target later. All of them, also those that the leader has: it may
have them no more when its own names are gone through, since a key that expires, or is evicted, is no write
that reaches the target. From then on BUSYKEY means a write that came behind the leader's, and the key is
done, unless its batch broke off.

What Memcached has no means for: everything sent to the target stands in a transaction that WATCHes two keys
there, the view's record and a token. The token is drawn anew for each attempt, and behind each exchange that
broke off. So what was sent before, and the target reads late, changes nothing, nor does it once the target is
in sync. And a proxy that goes on with what another began has a new view recorded first, E+2 with the same
members, so that the other one, should it only have been slow, cannot have the target admitted from E+1 while
copies are under way.

All databases are copied; the reserved keys are in the first, where each exchange begins and ends. The
largest value is as much at once as its DUMP.

Sources: Redis' SCAN guarantees, DUMP, RESTORE (ABSTTL), WATCH; ``rdbGenericLoadStringObject`` and
``verifyDumpPayload`` for which payloads a server takes (versions up to its own).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from proxy.control.copying import Key
from proxy.control.routing import resp_request, select_request
from proxy.control.view import RESERVED_PREFIX

SINCE = (7, 0)
"""PEXPIRETIME, which replication needs as well."""
UNKNOWN_BYTES = 16 * 1024
"""What a key counts where the server does not tell (MEMORY USAGE)."""
TRIAL_MS = 1000


@dataclass(frozen=True, slots=True)
class State:
    """What a key holds: ``payload`` of DUMP, None without the key; ``expires`` in ms since 1970, -1 never."""

    payload: bytes | None
    expires: int = -1


class Outcome(StrEnum):
    """What became of a RESTORE."""

    ADDED = "added"
    OCCUPIED = "occupied"
    REFUSED = "refused"


def is_reserved(word: bytes) -> bool:
    """True for keys of our own, which are not data."""
    return word.startswith(RESERVED_PREFIX.encode())


def has_needed_version(text: str) -> bool:
    """True if ``7.0.15`` is new enough."""
    numbers = text.split(".")
    if len(numbers) < 2 or not (numbers[0].isdigit() and numbers[1].isdigit()):
        return False
    return (int(numbers[0]), int(numbers[1])) >= SINCE


def sizes_request(words: Sequence[bytes]) -> bytes:
    """Asks how much memory each key takes."""
    return b"".join(resp_request("MEMORY", "USAGE", word) for word in words)


def sized(words: Sequence[bytes], replies: Sequence[Sequence[object]], database: int) -> list[Key]:
    """The keys of a database with the sizes in the replies to `sizes_request`, of each the largest that was
    told; those that are gone everywhere are left out."""
    keys = []
    for word, *told in zip(words, *replies, strict=True):
        sizes = [size if isinstance(size, int) else UNKNOWN_BYTES for size in told if size is not None]
        if sizes:
            keys.append(Key(word, max(sizes), database=database))
    return keys


Placed = tuple[int, bytes]
"""A database, and a request there."""


def transaction(requests: Sequence[Placed]) -> tuple[bytes, list[bool]]:
    """MULTI, the requests, EXEC, from database 0 and back to it.

    The last reply has theirs and those to SELECT; the list says of each whether it is of the first sort."""
    parts, is_answer = [resp_request("MULTI")], []
    here = 0
    for database, request in (*requests, (0, b"")):
        if database != here:
            parts.append(select_request(database))
            is_answer.append(False)
            here = database
        if request:
            parts.append(request)
            is_answer.append(True)
    return b"".join((*parts, resp_request("EXEC"))), is_answer


def state_requests(keys: Sequence[Key]) -> list[Placed]:
    """Ask for the state of each key, two replies each; for a `transaction`."""
    names = ("DUMP", "PEXPIRETIME")
    return [(key.database, resp_request(name, key.word)) for key in keys for name in names]


def read_states(answers: Sequence[object]) -> list[State] | None:
    """The answers to `state_requests`; None if they are others."""
    states = []
    for payload, expires in zip(answers[::2], answers[1::2], strict=True):
        if not (payload is None or isinstance(payload, bytes)) or not isinstance(expires, int):
            return None
        states.append(State(payload, expires))
    return states


def restore_requests(copies: Sequence[tuple[Key, State]]) -> list[Placed]:
    """Add each copy unless something is there."""
    return [
        (
            key.database,
            resp_request("RESTORE", key.word, str(max(0, state.expires)), state.payload, "ABSTTL"),
        )
        for key, state in copies
        if state.payload is not None
    ]


def judge_restore(answer: object, error: str | None) -> Outcome:
    """What became of a RESTORE; ``error`` is the text if the answer is one."""
    if error is not None:
        return Outcome.OCCUPIED if error.startswith("BUSYKEY") else Outcome.REFUSED
    return Outcome.ADDED if answer == b"OK" else Outcome.REFUSED


@dataclass
class Doubts:
    """Which keys of the target may hold something that did not come behind the leader's.

    Args:
        everything: each of them may, while the names on the target are gone through.
    """

    everything: bool = True
    _places: set[tuple[int, bytes]] = field(default_factory=set)

    def add(self, keys: Sequence[Key]) -> None:
        """A batch broke off."""
        self._places.update(key.place for key in keys)

    def settle(self, keys: Sequence[Key]) -> None:
        """A batch is through: each of its keys is right by now, or was removed."""
        self._places.difference_update(key.place for key in keys)

    def __contains__(self, key: Key) -> bool:
        return self.everything or key.place in self._places
