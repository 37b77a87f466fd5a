"""The requests of the workload in memcached's binary protocol, and what their answers mean.

Called by `chaos.workload`, through `chaos.dialect`. Keeps no state and opens no connection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chaos.dialect import Answer, Dialect, counted, error, is_list
from chaos.history import Kind, Outcome, Value
from support import packets
from support.packets import Reply, count_extras, item_extras, packet, read_packet
from support.raw import RawClient

FLAGS = 7
"""As in the other dialects, so that equal values are equal items."""
OUT_OF_MEMORY = 0x82


class Binary(Dialect):
    """What some of the clients of a Memcached speak, on the keys of the others."""

    name = "memcached"

    def request(self, kind: Kind, key: bytes, value: bytes) -> bytes:
        words: Mapping[Kind, bytes] = {
            Kind.GET: packet(packets.GET, key),
            Kind.SET: packet(packets.SET, key, value, extras=item_extras(FLAGS)),
            Kind.DELETE: packet(packets.DELETE, key),
            Kind.INCR: packet(packets.INCREMENT, key, extras=count_extras(1)),
            Kind.APPEND: packet(packets.APPEND, key, value + b","),
        }
        return words[kind]

    def read(self, client: RawClient, kind: Kind, key: bytes, value: Value) -> Answer:
        return _meaning(read_packet(client), kind, key, value)

    def many(self, kind: Kind, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        """Quiet requests; what is not there is not answered."""
        assert kind is Kind.GET
        asked = [packet(packets.GETQ, key, opaque=_opaque(at)) for at, key in enumerate(keys)]
        return b"".join(asked) + packet(packets.NOOP)

    def read_many(self, client: RawClient, kind: Kind, keys: Sequence[bytes]) -> list[Answer]:
        answers: list[Answer] = [(Outcome.OK, None, "", False)] * len(keys)
        while (reply := read_packet(client)).opcode != packets.NOOP:
            at = int.from_bytes(reply.opaque, "big")
            answers[at] = _meaning(reply, kind, keys[at], None)
        return answers


def _opaque(number: int) -> bytes:
    return number.to_bytes(4, "big")


def _meaning(reply: Reply, kind: Kind, key: bytes, value: Value) -> Answer:
    if reply.status == packets.OK:
        if kind is Kind.INCR:
            return Outcome.OK, int.from_bytes(reply.value, "big"), "", False
        if kind is not Kind.GET:
            return Outcome.OK, value, "", False
        if is_list(key):
            return Outcome.OK, tuple(reply.value.split(b",")[:-1]), "", False
        return Outcome.OK, counted(key, reply.value), "", False
    if reply.status in (packets.ABSENT, packets.NOT_STORED):
        if kind is Kind.GET:
            return Outcome.OK, () if is_list(key) else None, "", False
        if kind is Kind.DELETE:
            return Outcome.OK, value, "", False
        return Outcome.FAIL, None, "absent", False  # an increment or append of what is not there
    text = b"out of memory" if reply.status == OUT_OF_MEMORY else reply.value
    return error(b"SERVER_ERROR " + text, kind)
