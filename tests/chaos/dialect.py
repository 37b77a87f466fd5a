"""The few requests of the workload in both protocols, and what their answers mean.

Called by `chaos.workload`. Knows bytes and error texts; keeps no state and opens no connection.
"""

from __future__ import annotations

import base64
import itertools
import random
from collections.abc import Mapping, Sequence

from chaos.history import Kind, Outcome, Value
from support.raw import RawClient
from support.store import command, parse

NOT_APPLIED = (
    b"nothing was applied",
    b"was not applied",
    b"-OOM ",
    b"-MISCONF ",
    b"-EXECABORT ",
    b"SERVER_ERROR out of memory",
)
"""Errors that promise that a write has left no trace."""
MAYBE_APPLIED = (b"may have been applied", b"outcome unknown", b"may not survive")
READ_FAILED = (b"read timed out", b"lost while it answered")

Answer = tuple[Outcome, Value, str, bool]
"""Outcome, value, error text, whether the error is an odd one."""


class Dialect:
    """One protocol."""

    name: str
    has_tokens = False
    """Whether values come with tokens, by which a client counts up as with INCR: see `Memcached`."""

    def request(self, kind: Kind, key: bytes, value: bytes) -> bytes:
        """The bytes of a request; ``value`` is for SET and APPEND."""
        raise NotImplementedError

    def read(self, client: RawClient, kind: Kind, key: bytes, value: Value) -> Answer:
        """Reads one answer. Raises as `RawClient.read_until`."""
        raise NotImplementedError

    def many(self, kind: Kind, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        """One request for several keys that are no lists: GET of all, or (Redis only) SET of all."""
        raise NotImplementedError

    def read_many(self, client: RawClient, kind: Kind, keys: Sequence[bytes]) -> list[Answer]:
        """Reads the answer to `many`, as one per key. Raises as `RawClient.read_until`."""
        raise NotImplementedError

    def noise(self, rng: random.Random, count: int) -> list[tuple[bytes, bool]]:
        """Random requests of all types, each with whether its answer is one of values (memcached)."""
        raise NotImplementedError

    def read_noise(self, client: RawClient, is_values: bool) -> None:
        """Reads and drops one answer to such a request."""
        raise NotImplementedError


def error(text: bytes, kind: Kind) -> Answer:
    """What an error line means."""
    shown = text.strip().decode(errors="replace")
    if any(part in text for part in NOT_APPLIED):
        return Outcome.FAIL, None, shown, False
    if kind is Kind.GET:
        return Outcome.FAIL, None, shown, not any(part in text for part in READ_FAILED)
    return Outcome.UNKNOWN, None, shown, not any(part in text for part in MAYBE_APPLIED)


class Redis(Dialect):
    """RESP2."""

    name = "redis"

    def request(self, kind: Kind, key: bytes, value: bytes) -> bytes:
        if kind is Kind.GET:
            return command("LRANGE", key, 0, -1) if is_list(key) else command("GET", key)
        words: Mapping[Kind, Sequence[bytes]] = {
            Kind.SET: (b"SET", key, value),
            Kind.DELETE: (b"DEL", key),
            Kind.INCR: (b"INCR", key),
            Kind.APPEND: (b"RPUSH", key, value),
        }
        return wrapped(command(*words[kind]), key)

    def read(self, client: RawClient, kind: Kind, key: bytes, value: Value) -> Answer:
        while (reply := client.read_reply()) == b"+QUEUED\r\n":
            pass
        if reply == NULL:
            return Outcome.FAIL, None, "a watched key may have changed", False
        if is_wrapped(key) and kind is not Kind.GET:
            reply = reply.removeprefix(b"*1\r\n")
        if reply.startswith(b"-"):
            return error(reply, kind)
        found = parse(reply)
        if kind is Kind.GET:
            if is_list(key):
                return Outcome.OK, tuple(found), "", False
            return Outcome.OK, counted(key, found), "", False
        return Outcome.OK, found if kind is Kind.INCR else value, "", False

    def many(self, kind: Kind, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        if kind is Kind.GET:
            return command("MGET", *keys)
        return command("MSET", *itertools.chain(*zip(keys, values, strict=True)))

    def read_many(self, client: RawClient, kind: Kind, keys: Sequence[bytes]) -> list[Answer]:
        reply = client.read_reply()
        if reply.startswith(b"-"):
            return [error(reply, kind)] * len(keys)
        if kind is Kind.SET:
            return [(Outcome.OK, None, "", False)] * len(keys)
        pairs = zip(keys, parse(reply), strict=True)
        return [(Outcome.OK, counted(key, found), "", False) for key, found in pairs]

    def noise(self, rng: random.Random, count: int) -> list[tuple[bytes, bool]]:
        # Imported here, since only one protocol of one run needs it.
        from support.random_commands import WORDS, redis_commands

        requests = []
        for words in redis_commands(rng, count, spread=0.0):
            if rng.random() < 0.3:
                tag = f"{{{rng.choice('abcdefgh')}}}"
                template = rng.choice(CHANCE).split()
                words = [WORDS[word](rng, tag) if word in WORDS else word for word in template]
            if words[0] not in CLOSED_SHOP:
                requests.append((command(*words), False))
        return requests

    def read_noise(self, client: RawClient, is_values: bool) -> None:
        client.read_reply()


class Memcached(Dialect):
    """Classic text, and for half of the keys meta commands."""

    name = "memcached"
    has_tokens = True

    def __init__(self) -> None:
        self._tokens: dict[bytes, bytes] = {}
        """The last CAS token of each key of the noise."""

    def request(self, kind: Kind, key: bytes, value: bytes) -> bytes:
        if is_meta(key):
            return meta_request(kind, key, value)
        words: Mapping[Kind, bytes] = {
            Kind.GET: b"get %b" % key,
            Kind.SET: b"set %b 7 0 %d\r\n%b" % (key, len(value), value),
            Kind.DELETE: b"delete %b" % key,
            Kind.INCR: b"incr %b 1" % key,
            Kind.APPEND: b"append %b 0 0 %d\r\n%b" % (key, len(value) + 1, value + b","),
        }
        return words[kind] + b"\r\n"

    def read(self, client: RawClient, kind: Kind, key: bytes, value: Value) -> Answer:
        line = client.read_line()
        if kind is Kind.GET:
            if line in (b"END\r\n", b"EN\r\n"):
                return Outcome.OK, () if is_list(key) else None, "", False
            if line.startswith(b"VA "):
                data = client.read_exactly(int(line.split()[1]) + 2)[:-2]
            elif line.startswith(b"VALUE "):
                data = client.read_exactly(int(line.split()[3]) + 2)[:-2]
                client.read_line()
            else:
                return error(line, kind)
            if is_list(key):
                return Outcome.OK, tuple(data.split(b",")[:-1]), "", False
            return Outcome.OK, counted(key, data), "", False
        if kind is Kind.INCR and line.startswith(b"VA "):
            line = client.read_line()
        if kind is Kind.INCR and line[:1].isdigit():
            return Outcome.OK, int(line), "", False
        if line in EXPECTED[kind]:
            return Outcome.OK, value, "", False
        if line in (
            b"NOT_FOUND\r\n",
            b"NOT_STORED\r\n",
            b"NF\r\n",
            b"NS\r\n",
        ):  # an increment or append of what is not there
            return Outcome.FAIL, None, "absent", False
        return error(line, kind)

    def token_request(self, key: bytes) -> bytes:
        """Asks for a counter with its CAS token."""
        return b"mg %b v c%b\r\n" % spelled(key) if is_meta(key) else b"gets %b\r\n" % key

    def read_token(self, client: RawClient, key: bytes) -> tuple[Answer, bytes]:
        """Reads the answer to `token_request`, and the token. Raises as `RawClient.read_until`."""
        line = client.read_line()
        words = line.split()
        if line in (b"END\r\n", b"EN\r\n"):
            return (Outcome.OK, None, "", False), b""
        if words[0] not in (b"VALUE", b"VA"):
            return error(line, Kind.GET), b""
        is_text = words[0] == b"VALUE"
        data = client.read_exactly(int(words[3 if is_text else 1]) + 2)[:-2]
        if is_text:
            client.read_line()
        token = words[4] if is_text else words[2].removeprefix(b"c")
        return (Outcome.OK, counted(key, data), "", False), token

    def swap_request(self, key: bytes, number: int, token: bytes) -> bytes:
        """Sets a counter to this number if it still has the token."""
        data = b"%d" % number
        if is_meta(key):
            word, mark = spelled(key)
            return b"ms %b %d F7 C%b%b\r\n%b\r\n" % (word, len(data), token, mark, data)
        return b"cas %b 7 0 %d %b\r\n%b\r\n" % (key, len(data), token, data)

    def read_swap(self, client: RawClient, number: int) -> Answer:
        """Reads the answer to `swap_request`. Raises as `RawClient.read_until`."""
        line = client.read_line()
        if line in (b"STORED\r\n", b"HD\r\n"):
            return Outcome.OK, number, "", False
        if line in (b"EXISTS\r\n", b"EX\r\n", b"NOT_FOUND\r\n", b"NF\r\n"):
            return Outcome.FAIL, None, "somebody else was first", False
        return error(line, Kind.INCR)

    def many(self, kind: Kind, keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
        assert kind is Kind.GET
        return b"get %b\r\n" % b" ".join(keys)

    def read_many(self, client: RawClient, kind: Kind, keys: Sequence[bytes]) -> list[Answer]:
        found = {}
        while (line := client.read_line()).startswith(b"VALUE "):
            _, key, _, length = line.split()
            found[key] = client.read_exactly(int(length) + 2)[:-2]
        if line != b"END\r\n":
            return [error(line, kind)] * len(keys)
        return [(Outcome.OK, counted(key, found.get(key)), "", False) for key in keys]

    def noise(self, rng: random.Random, count: int) -> list[tuple[bytes, bool]]:
        requests = []
        for _ in range(count):
            if rng.random() < 0.4:
                requests.append((self._meta_noise(rng), False))
                continue
            line = rng.choice(MEMCACHED_NOISE)
            # Numbers are apart: beyond 2**63 memcached 1.6.18 looks for a minus behind the value, past its
            # end, so that one server counts on and another refuses.
            is_number = line.startswith((b"incr", b"decr")) or (
                line.startswith(b"set") and rng.random() < 0.3
            )
            key = b"noise:%b%d" % (b"n" if is_number else b"", rng.randrange(30))
            flags = rng.choice((0, 1, 4294967295))
            expires = rng.choice((0, 0, 1000, 100_000, 2_000_000_000, -1))
            data = b"%d" % rng.randrange(99) if is_number else rng.randbytes(rng.choice((0, 1, 30, 500)))
            line %= {b"key": key, b"flags": flags, b"exp": expires, b"n": len(data)}
            verb = line.split()[0]
            block = data + b"\r\n" if verb in STORING else b""
            requests.append((line + b"\r\n" + block, verb.startswith((b"get", b"gat"))))
        return requests

    def read_noise(self, client: RawClient, is_values: bool) -> None:
        line = client.read_line()
        while is_values and line.startswith(b"VALUE "):
            client.read_exactly(int(line.split()[3]) + 2)
            line = client.read_line()
        words = line.split()
        if words[:1] == [b"VA"]:
            client.read_exactly(int(words[1]) + 2)
        shown = {word[:1]: word[1:] for word in words[1:]}
        if words[:1] in ([b"VA"], [b"HD"]) and b"k" in shown and b"c" in shown:
            self._tokens[shown[b"k"]] = shown[b"c"]

    def _meta_noise(self, rng: random.Random) -> bytes:
        line = rng.choice(META_NOISE)
        # Numbers are not marked: counting keeps a mark or not by who else holds the item.
        number = rng.randrange(30)
        key = b"noise:%b%d" % (b"n" if line.startswith(b"ma") else b"", number)
        mark = b""
        if number % 4 == 0:  # a key that only they can name, and the binary protocol
            key, mark = base64.b64encode(key + b" \r\n\x00"), b" b"
        data = rng.randbytes(rng.choice((0, 1, 30, 500)))
        fields = {
            b"key": key,
            b"flags": rng.choice((0, 1, 4294967295)),
            b"exp": rng.choice((0, 0, 1000, 100_000, 2_000_000_000, -1)),
            b"token": self._tokens.get(key, b"77"),
            b"n": len(data),
        }
        block = data + b"\r\n" if line.startswith(b"ms") else b""
        return line % fields + mark + b"\r\n" + block


NULL = b"*-1\r\n"


def is_wrapped(key: bytes) -> bool:
    """Writes of single keys go to half of the keys in a transaction."""
    return sum(key) % 2 == 0


def wrapped(request: bytes, key: bytes) -> bytes:
    """A write as it goes to this key: alone, or in a transaction, which may watch the key; its
    answers begin with the first "QUEUED"."""
    if not is_wrapped(key):
        return request
    skip = command("CLIENT", "REPLY", "SKIP")
    watching = skip + command("WATCH", key) if sum(key) % 4 == 0 else b""
    return b"".join((watching, skip, command("MULTI"), request, command("EXEC")))


def is_meta(key: bytes) -> bool:
    """Half of the keys are asked for by meta commands, half of those in base64."""
    return sum(key) % 2 == 0


def spelled(key: bytes) -> tuple[bytes, bytes]:
    """A key as meta commands name it, and the flag that says so."""
    return (base64.b64encode(key), b" b") if sum(key) % 4 == 0 else (key, b"")


def meta_request(kind: Kind, key: bytes, value: bytes) -> bytes:
    """The bytes of a request by meta commands."""
    key, mark = spelled(key)
    words: Mapping[Kind, bytes] = {
        Kind.GET: b"mg %b v%b" % (key, mark),
        Kind.SET: b"ms %b %d F7%b\r\n%b" % (key, len(value), mark, value),
        Kind.DELETE: b"md %b%b" % (key, mark),
        Kind.INCR: b"ma %b v%b" % (key, mark),
        Kind.APPEND: b"ms %b %d MA%b\r\n%b" % (key, len(value) + 1, mark, value + b","),
    }
    return words[kind] + b"\r\n"


DIALECTS: Mapping[str, Dialect] = {"redis": Redis(), "memcached": Memcached()}


def is_list(key: bytes) -> bool:
    """Keys of APPEND begin with ``list:``."""
    return key.startswith(b"list:")


def counted(key: bytes, data: bytes | None) -> Value:
    """The number under a key of INCR, which begins with ``count:``; other values stay as they are."""
    if data is None or not key.startswith(b"count:"):
        return data
    return int(data)


EXPECTED: Mapping[Kind, tuple[bytes, ...]] = {
    Kind.SET: (b"STORED\r\n", b"HD\r\n"),
    Kind.DELETE: (b"DELETED\r\n", b"NOT_FOUND\r\n", b"HD\r\n", b"NF\r\n"),
    Kind.INCR: (),
    Kind.APPEND: (b"STORED\r\n", b"HD\r\n"),
}
ABSENT = (b"NOT_FOUND\r\n", b"NOT_STORED\r\n", b"NF\r\n", b"NS\r\n")
STORING = (b"set", b"add", b"replace", b"append", b"prepend")
MEMCACHED_NOISE = (
    b"set %(key)b %(flags)d %(exp)d %(n)d",
    b"set %(key)b %(flags)d %(exp)d %(n)d",
    b"add %(key)b %(flags)d %(exp)d %(n)d",
    b"replace %(key)b %(flags)d %(exp)d %(n)d",
    b"append %(key)b 0 0 %(n)d",
    b"prepend %(key)b 0 0 %(n)d",
    b"incr %(key)b 3",
    b"decr %(key)b 2",
    b"delete %(key)b",
    b"touch %(key)b %(exp)d",
    b"gat %(exp)d %(key)b",
    b"gats %(exp)d %(key)b",
    b"get %(key)b",
)

META_NOISE = (
    b"mg %(key)b v k c t",
    b"mg %(key)b k c N1000",
    b"mg %(key)b v k c R2000 T%(exp)d",
    b"mg %(key)b N1000 R2000 k c",
    b"ms %(key)b %(n)d T%(exp)d F%(flags)d k c",
    b"ms %(key)b %(n)d ME T%(exp)d",
    b"ms %(key)b %(n)d MR F%(flags)d",
    b"ms %(key)b %(n)d MA",
    b"ms %(key)b %(n)d MP C%(token)b",
    b"ms %(key)b %(n)d C%(token)b F%(flags)d k c",
    b"ms %(key)b %(n)d C%(token)b I k c",
    b"md %(key)b",
    b"md %(key)b I",
    b"md %(key)b I T1000",
    b"md %(key)b I C%(token)b",
    b"md %(key)b C%(token)b",
    b"ma %(key)b v D3",
    b"ma %(key)b N1000 J5 MD",
)

CLOSED_SHOP = frozenset(("PFCOUNT", "XGROUP"))
"""Left out of the noise. PFCOUNT caches what it counted on the replica it asked; a consumer's idle time
is a clock reading, so groups would have to be compared without it."""

CHANCE = (
    "SPOP set", "SPOP set count", "SRANDMEMBER set", "EXPIRE any 1000", "PEXPIRE any 900000", "RPOP list",
    "SET str val EX 800", "GETEX str EX 700", "XADD stream * member val", "EXPIRE any 2000 NX",
    "XADD stream MAXLEN ~ 5 * member val", "INCRBYFLOAT num float", "HINCRBYFLOAT hash member float",
    "PSETEX str 800000 val", "SET str val PX 600000 GET", "ZADD zset score member", "SETEX str 500 val",
)  # fmt: skip
"""Redis requests whose effect depends on chance, on a clock, or on what was there."""
