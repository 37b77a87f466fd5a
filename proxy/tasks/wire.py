"""The two client protocols as far as control connections speak them; bytes in, replies out, no IO.

Used by `proxy.tasks.link`. Readers take any split of the byte stream and return whole replies in order.
Must not know sockets, backends or views.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import hiredis

from proxy.control.model import Condition, Reason

REPLY_BYTES_LIMIT = 1 << 20
"""Far above any INFO or stats; a peer that sends more without ending a reply is not a cache server."""

LISTING_BYTES_LIMIT = 64 << 20
"""CLIENT LIST has some 400 bytes for each connection, of which hundreds of proxies make thousands."""


class WireError(Exception):
    """The peer's bytes are not the protocol we speak."""


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """A RESP error; ``word`` is its first word, ``NOAUTH`` of ``-NOAUTH Authentication required.``"""

    text: str

    @property
    def word(self) -> str:
        return self.text.partition(" ")[0]

    @property
    def brief(self) -> str:
        """For a log line: without what Redis repeats of the request, which may be a password or a value."""
        return self.text.partition(", with args beginning with")[0][:100]


@dataclass(frozen=True, slots=True)
class Value:
    """One item of a memcached retrieval; ``cas`` is 0 unless asked for."""

    data: bytes
    flags: int
    cas: int = 0


@dataclass(frozen=True, slots=True)
class Listing:
    """A memcached reply that ended with END: items by key, statistics by name."""

    values: Mapping[bytes, Value] = field(default_factory=dict)
    statistics: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class MetaReply:
    """A reply to a meta command: ``HD``, ``VA`` and so on, its flags, the data block of a VA."""

    status: bytes
    flags: list[bytes]
    data: bytes = b""

    def number(self, flag: bytes) -> int | None:
        """The number behind a flag: 7 of ``c7``."""
        for word in self.flags:
            if word[:1] == flag and word[1:].lstrip(b"-").isdigit():
                return int(word[1:])
        return None


Reply = bytes | int | None | ErrorReply | Listing | MetaReply | list["Reply"]
"""RESP strings are bytes, nil is None; a one-line memcached reply is bytes without its line end."""


class Reader(Protocol):
    """Collects bytes, gives out replies."""

    def feed(self, data: bytes) -> None:
        """Takes what was received.

        Raises:
            WireError: a reply grew beyond `REPLY_BYTES_LIMIT`.
        """

    def replies(self) -> list[Reply]:
        """All replies that are complete, oldest first; each is given once.

        Raises:
            WireError: the bytes are not the protocol.
        """


class RespReader:
    """RESP2 by hiredis.

    Args:
        limit: bytes that one reply may take.
    """

    def __init__(self, limit: int = REPLY_BYTES_LIMIT) -> None:
        self._limit = limit
        self._reader = hiredis.Reader(protocolError=WireError, replyError=ErrorReply)  # type: ignore[arg-type]
        self._unfinished_bytes = 0

    def feed(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        if self._unfinished_bytes > self._limit:
            raise WireError("a reply is too long")
        self._reader.feed(data)

    def replies(self) -> list[Reply]:
        found: list[Reply] = []
        # RESP2 has no booleans, so False can only mean that no reply is complete.
        while (reply := self._reader.gets()) is not False:
            found.append(reply)
        if found:
            self._unfinished_bytes = 0
        return found


class MemcachedReader:
    """Classic text. A reply is one line, or lines and data blocks up to END."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._values: dict[bytes, Value] = {}
        self._statistics: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > REPLY_BYTES_LIMIT:
            raise WireError("a reply is too long")

    def replies(self) -> list[Reply]:
        found: list[Reply] = []
        while (end := self._buffer.find(b"\r\n")) >= 0:
            line = bytes(self._buffer[:end])
            taken = end + 2
            if line.startswith(b"VALUE "):
                key, value, taken = self._value(line, taken)
                if not taken:
                    break
                self._values[key] = value
            elif line.startswith(b"STAT "):
                name, _, text = line[5:].partition(b" ")
                self._statistics[name] = text
            elif line == b"END":
                found.append(Listing(self._values, self._statistics))
                self._values, self._statistics = {}, {}
            else:
                found.append(line)
            del self._buffer[:taken]
        return found

    def _value(self, line: bytes, start: int) -> tuple[bytes, Value, int]:
        """Key, item and the position behind it; position 0 if the block is not all there yet."""
        words = line.split(b" ")
        if len(words) not in (4, 5) or not all(word.isdigit() for word in words[2:]):
            raise WireError("a VALUE line is malformed")
        length = int(words[3])
        end = start + length
        if len(self._buffer) < end + 2:
            return b"", Value(b"", 0), 0
        if self._buffer[end : end + 2] != b"\r\n":
            raise WireError("a data block does not end where it says")
        value = Value(bytes(self._buffer[start:end]), int(words[2]), int(words[4]) if len(words) == 5 else 0)
        return words[1], value, end + 2


class MetaReader:
    """Replies to memcached's meta commands; other lines are bytes.

    Args:
        limit: bytes that one reply may take.
    """

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def replies(self) -> list[Reply]:
        found: list[Reply] = []
        buffer, start = self._buffer, 0
        while (end := buffer.find(b"\r\n", start)) >= 0:
            words = bytes(buffer[start:end]).split(b" ")
            taken = end + 2
            if words[0] == b"VA":
                if len(words) < 2 or not words[1].isdigit():
                    raise WireError("a VA line is malformed")
                stop = taken + int(words[1])
                if len(buffer) < stop + 2:
                    break
                if buffer[stop : stop + 2] != b"\r\n":
                    raise WireError("a data block does not end where it says")
                found.append(MetaReply(b"VA", words[2:], bytes(buffer[taken:stop])))
                taken = stop + 2
            elif words[0] in META_STATUSES:
                found.append(MetaReply(words[0], words[1:]))
            else:
                found.append(b" ".join(words))
            start = taken
        del buffer[:start]
        if len(buffer) > self._limit:
            raise WireError("a reply is too long")
        return found


META_STATUSES = frozenset({b"HD", b"EN", b"NS", b"EX", b"NF", b"MN"})


class DumpReader:
    """The keys that ``lru_crawler metadump`` lists, handed on as they come; one reply, its last line."""

    def __init__(self, take: Callable[[bytes], None]) -> None:
        self._take = take
        self._rest = b""

    def feed(self, data: bytes) -> None:
        self._rest += data
        if len(self._rest) > REPLY_BYTES_LIMIT:
            raise WireError("a line is too long")

    def replies(self) -> list[Reply]:
        *lines, self._rest = self._rest.split(b"\n")
        found: list[Reply] = []
        for line in lines:
            if line.startswith(b"key="):
                self._take(line.rstrip(b"\r"))
            elif line.rstrip(b"\r") != b"OK":  # the first line since memcached 1.6.43
                found.append(line.rstrip(b"\r"))
        return found


def listing_reader() -> RespReader:
    """One that takes a CLIENT LIST of thousands of connections."""
    return RespReader(LISTING_BYTES_LIMIT)


READERS: Mapping[str, type[RespReader] | type[MemcachedReader]] = {
    "redis": RespReader,
    "memcached": MemcachedReader,
}

CONDITION_WORDS: Mapping[str, Condition] = {
    "LOADING": Condition.LOADING,
    "MISCONF": Condition.MISCONF,
    "READONLY": Condition.READONLY,
    "NOAUTH": Condition.NOAUTH,
    "NOPERM": Condition.NOAUTH,
    "WRONGPASS": Condition.NOAUTH,
    "OOM": Condition.OOM,
    "BUSY": Condition.BUSY,
    # A replica cut off from its master: it answers, and takes no writes.
    "MASTERDOWN": Condition.READONLY,
}
"""First words of Redis errors that name a condition rather than a death."""


def condition_of(reply: Reply) -> Condition | None:
    """The condition that an error reply names, in either protocol; None if it names none."""
    if isinstance(reply, ErrorReply):
        return CONDITION_WORDS.get(reply.word)
    if isinstance(reply, bytes):
        if reply.startswith(b"SERVER_ERROR out of memory"):
            return Condition.OOM
        if reply.startswith(b"CLIENT_ERROR unauthenticated"):
            return Condition.NOAUTH
    return None


def reason_of(reply: Reply) -> Reason:
    """The reason to give when ``reply`` is not the one hoped for."""
    condition = condition_of(reply)
    return Reason(condition.value) if condition is not None else Reason.PROTOCOL


def info_fields(reply: Reply) -> dict[str, str]:
    """The ``name:value`` lines of an INFO reply; empty if it is an error or something else."""
    if not isinstance(reply, bytes):
        return {}
    lines = (line.partition(":") for line in reply.decode("utf-8", "replace").splitlines())
    return {name: value for name, colon, value in lines if colon and not name.startswith("#")}


def key_counts(reply: Reply) -> dict[int, int]:
    """Keys by database, from the reply to INFO keyspace (``db0:keys=5,expires=0,...``); not empty ones."""
    found = {}
    for name, text in info_fields(reply).items():
        number, count = name.removeprefix("db"), text.partition(",")[0].removeprefix("keys=")
        if name.startswith("db") and number.isdigit() and count.isdigit():
            found[int(number)] = int(count)
    return found
