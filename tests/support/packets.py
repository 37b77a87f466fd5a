"""Packets of memcached's binary protocol: written, read, and random ones to compare a proxy with a server.

Called by tests/integration/test_binary*.py.
"""

import random
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from support.raw import RawClient
from support.store import Refused, Store

HEADER = struct.Struct(">BBHBBHI4sQ")
REQUEST = 0x80

GET, SET, ADD, REPLACE, DELETE, INCREMENT, DECREMENT, QUIT, FLUSH = range(9)
GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT = range(0x09, 0x11)
SETQ, ADDQ, REPLACEQ, DELETEQ, INCREMENTQ, DECREMENTQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ = range(0x11, 0x1B)
TOUCH, GAT, GATQ = range(0x1C, 0x1F)
SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)

OK, ABSENT, EXISTS, NOT_STORED = 0, 1, 2, 5
"""Statuses."""

NEVER_CREATE = 0xFFFFFFFF
"""The expiry of an increment that creates nothing."""


class Reply(NamedTuple):
    """One packet of a server."""

    opcode: int
    status: int
    opaque: bytes
    cas: int
    extras: bytes
    key: bytes
    value: bytes


def packet(
    opcode: int,
    key: bytes = b"",
    value: bytes = b"",
    *,
    extras: bytes = b"",
    cas: int = 0,
    opaque: bytes = b"opaq",
) -> bytes:
    """One request."""
    body = len(extras) + len(key) + len(value)
    head = HEADER.pack(REQUEST, opcode, len(key), len(extras), 0, 0, body, opaque, cas)
    return head + extras + key + value


def item_extras(flags: int = 0, expiry: int = 0) -> bytes:
    """What a SET carries besides the value."""
    return struct.pack(">II", flags, expiry)


def count_extras(delta: int, initial: int = 0, expiry: int = NEVER_CREATE) -> bytes:
    """What an INCREMENT carries."""
    return struct.pack(">QQI", delta, initial, expiry)


def read_packet(client: RawClient) -> Reply:
    """The next packet. Raises as `RawClient.read_exactly`."""
    head = client.read_exactly(HEADER.size)
    magic, opcode, key, extras, kind, status, body, opaque, cas = HEADER.unpack(head)
    assert (magic, kind) == (0x81, 0), head
    rest = client.read_exactly(body)
    parts = rest[:extras], rest[extras : extras + key], rest[extras + key :]
    return Reply(opcode, status, opaque, cas, *parts)


def ask(client: RawClient, request: bytes) -> Reply:
    """Sends a request and reads the one packet it is answered with."""
    client.send(request)
    return read_packet(client)


def read_until_noop(client: RawClient, opaque: bytes) -> list[Reply]:
    """All packets before the reply to the NOOP with that opaque."""
    replies: list[Reply] = []
    while (reply := read_packet(client)).opcode != NOOP or reply.opaque != opaque:
        replies.append(reply)
    return replies


class BinaryStore(Store):
    """A Memcached connection, binary."""

    @staticmethod
    def set_request(key: bytes, value: bytes) -> bytes:
        return packet(SET, key, value, extras=item_extras())

    @staticmethod
    def get_request(key: bytes) -> bytes:
        return packet(GET, key)

    def read_set(self) -> None:
        if (reply := read_packet(self.raw)).status:
            raise Refused(reply)

    def read_get(self) -> bytes | None:
        reply = read_packet(self.raw)
        if reply.status not in (OK, ABSENT):
            raise Refused(reply)
        return reply.value if reply.status == OK else None


WORD_KEYS = [b"b%d" % n for n in range(12)]
ODD_KEYS = [b"a b", b"\x00\r\n", b" ", b"\xff\x7f", b"k" * 250, b"x\r" * 93]
NUMBER_KEYS = [b"n%d" % n for n in range(4)]
ALL_KEYS = [*WORD_KEYS, *ODD_KEYS, *NUMBER_KEYS]

EXPIRIES = [0, 0, 0, 0, 0, 0, 1000, 100_000, 2_592_001, 0x7FFFFFFF, 0xFFFFFFFF]
"""Never, far from each other, in 1970 (since more than 30 days are a date), and beyond what lines can say."""

NOBODYS_TOKEN = 1 << 40
"""A CAS token that no item has: a server gives them out from 1 on."""

LARGE = 1 << 62
"""From 2^63 on memcached 1.6.18 takes a number for none if a minus stands anywhere behind it in memory."""


@dataclass(frozen=True)
class Ask:
    """One random request.

    Args:
        compares: it has the CAS token its side knows of the key, or an older one.
    """

    opcode: int
    key: bytes = b""
    value: bytes = b""
    extras: bytes = b""
    compares: bool = False
    old: bool = False
    opaque: bytes = field(default=b"opaq")


def random_asks(rng: random.Random, count: int) -> list[Ask]:
    """Random requests; all that do not end the connection."""
    makers = [_get, _get, _store, _store, _extend, _delete, _count, _touch]
    return [_rare(rng) if rng.random() < 0.03 else rng.choice(makers)(rng) for _ in range(count)]


def _opaque(rng: random.Random) -> bytes:
    return rng.randbytes(4)


def _get(rng: random.Random) -> Ask:
    return Ask(rng.choice([GET, GETQ, GETK, GETKQ]), rng.choice(ALL_KEYS), opaque=_opaque(rng))


def _touch(rng: random.Random) -> Ask:
    extras = struct.pack(">I", rng.choice(EXPIRIES))
    opcode = rng.choice([TOUCH, GAT, GATQ, GATK, GATKQ])
    return Ask(opcode, rng.choice(ALL_KEYS), extras=extras, opaque=_opaque(rng))


def _store(rng: random.Random) -> Ask:
    key = rng.choice(ALL_KEYS)
    opcode = rng.choice([SET, SET, SETQ, ADD, ADDQ, REPLACE, REPLACEQ])
    # Neither a digit at its front nor only blanks: whether it counts as a number then depends on who else
    # holds the item, or on what stands behind it in the server's memory.
    value = rng.randbytes(rng.choice([0, 1, 30, 500, 20_000])).lstrip(b"0123456789 \t\n\v\f\r")
    if key in WORD_KEYS:
        value = value or b"x"
    if key in NUMBER_KEYS:
        value = rng.choice([b"0", b"10", b"99", b"%d" % LARGE])
    extras = item_extras(rng.choice([0, 5, 0xFFFFFFFF]), rng.choice(EXPIRIES))
    compares = rng.random() < 0.3
    return Ask(opcode, key, value, extras, compares, rng.random() < 0.3, _opaque(rng))


def _extend(rng: random.Random) -> Ask:
    # Of one that is appended to a number nobody knows what it counts as.
    key = rng.choice(WORD_KEYS + ODD_KEYS)
    opcode = rng.choice([APPEND, APPENDQ, PREPEND, PREPENDQ])
    compares = rng.random() < 0.2
    return Ask(opcode, key, rng.choice([b"", b"-", b"more\r\n"]), b"", compares, False, _opaque(rng))


def _delete(rng: random.Random) -> Ask:
    opcode = rng.choice([DELETE, DELETEQ])
    compares = rng.random() < 0.3
    return Ask(opcode, rng.choice(ALL_KEYS), b"", b"", compares, rng.random() < 0.3, _opaque(rng))


def _count(rng: random.Random) -> Ask:
    key = rng.choice(NUMBER_KEYS) if rng.random() < 0.9 else rng.choice(WORD_KEYS)
    opcode = rng.choice([INCREMENT, INCREMENTQ, DECREMENT, DECREMENTQ])
    # How a word that became a number is padded, and what comes of appending to it, is not determined.
    expiry = rng.choice([NEVER_CREATE, 0, 0, 1000]) if key in NUMBER_KEYS else NEVER_CREATE
    extras = count_extras(rng.choice([0, 1, 7, 1_000_000]), rng.choice([0, 3, LARGE]), expiry)
    compares = rng.random() < 0.2
    return Ask(opcode, key, b"", extras, compares, rng.random() < 0.3, _opaque(rng))


def _rare(rng: random.Random) -> Ask:
    return rng.choice([
        Ask(NOOP, opaque=_opaque(rng)),
        Ask(VERSION, opaque=_opaque(rng)),
        Ask(FLUSH, opaque=_opaque(rng)),
        Ask(FLUSHQ, extras=bytes(4), opaque=_opaque(rng)),
        Ask(STAT, b"nothing of this name", opaque=_opaque(rng)),
        Ask(SASL_LIST, opaque=_opaque(rng)),
        Ask(SASL_AUTH, b"PLAIN", b"\0a\0b", opaque=_opaque(rng)),
        Ask(0x1B, value=b"xyz", opaque=_opaque(rng)),
        Ask(rng.randrange(0x25, 0x100), value=bytes(rng.randrange(100)), opaque=_opaque(rng)),
    ])  # fmt: skip
