"""Random requests for every command, in the shapes that the server's own COMMAND DOCS gives them.

Called by tests/integration/test_every_command.py. Most are as they should be; some have a word too many or
too few, one of a wrong type, an option twice. What depends on the clock is made as far as its answer can be
compared.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from support.random_commands import FUTURE, TAGS, TYPES

Docs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Arguments by the command's name, ``XGROUP|CREATE`` for a subcommand."""

KINDS = {
    "string": ("str", "num", "num"), "list": ("list",), "set": ("set",), "hash": ("hash",),
    "sorted-set": ("zset", "zset", "geo"), "stream": ("stream",), "bitmap": ("bits", "str"), "geo": ("geo",),
    "hyperloglog": ("hll",),
}  # fmt: skip
"""Kinds of keys that fit the commands of a group; any for the others."""
MIXED = tuple(kind for kind in TYPES if kind != "hll")
SCRIPTS = (
    "return {KEYS, ARGV}",
    "return redis.call('GET', KEYS[1])",
    "return redis.call('APPEND', KEYS[1], ARGV[1] or 'x')",
    "return redis.call('LPUSH', KEYS[1], unpack(ARGV))",
    "return redis.pcall('INCR', KEYS[1])",
    "return {1.5, true, false, {ok = 'fine'}, 'text'}",
    "return redis.error_reply('MINE own error')",
    "error('thrown')",
    "not Lua (",
    "",
)
LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, args) return redis.call('APPEND', keys[1], args[1] or 'x') end)
redis.register_function{function_name='look', flags={'no-writes'},
  callback=function(keys) return redis.call('TYPE', keys[1]) end}
"""

ODD = (
    "", "-1", "0", "1", "9223372036854775807", "-9223372036854775808", "9223372036854775808", "1e400", "nan",
    "inf", "-inf", "0x10", "1.5", " 1", "01", "+1", "x", "(1", "[m1", "a\r\nb", "\x00", "-", "+", "*", "$",
    ">", "5-5", "99999999999999999999", "NX", "XX", "GET", "COUNT", "STORE", "LIMIT", "WITHSCORES",
    "4294967296", "ASC", "ä",
)  # fmt: skip
"""What may stand where something else should."""

ID, NUMKEYS = "an id", "the number of keys"
"""Stand for words that are chosen once the others are known."""
INTEGERS = ("-100", "-2", "-1", "0", "0", "1", "1", "2", "3", "5", "10", "17", "1000")
"""Small on the whole: SETRANGE and SETBIT fill what is before it."""

_IDS: Mapping[str, Sequence[str]] = {"XADD": ("*", "*"), "XREAD": ("0", "$"), "XREADGROUP": (">", "0")}
_STRINGS = ("", "v", "x" * 70, "1", "-7", "3.25", "a b", "ä\r\n$3\r\n", "m1", "m2")

_WORDS: Mapping[str, Sequence[str]] = {
    "timeout": ("0.001", "0.001", "0.002", "-1", "x"),
    "milliseconds": ("100000000", "200000000", "0", "-5", "x"),
    "ttl": ("0", "0", "100000000", "-1", "x"),
    # Idle times are the clock's: all are longer than nothing, and shorter than this.
    "min-idle-time": ("0", "0", "1000000000", "-1", "x"),
    "ms": ("0", "1000", "-1", "x"),
    "seconds": ("100000", "200000", "0", "-5", "9223372036854775807", "x"),
    # 16 databases are compared.
    "destination-db": ("0", "1", "3", "15", "16", "-1", "x"),
    "db": ("1", "3", "15", "16", "-1", "x"),
    "group": ("g1", "g1", "g1", "g2"),
    "consumer": ("c1", "c1", "c2"),
    "newconsumer": ("c1", "c2"),
    "encoding": ("u8", "i5", "u63", "i64", "u1", "u64", "x"),
    "offset": ("0", "1", "7", "#1", "100", "-1", "x"),
    "bit": ("0", "1", "1", "2"),
    "operation": ("AND", "OR", "XOR", "NOT", "and", "x"),
    "min": ("-inf", "(3", "0", "5", "-", "[m3", "(m2", "x"),
    "max": ("+inf", "(13", "9", "5", "+", "[m7", "(m9", "x"),
    "start": ("0", "1", "-3", "-", "(1-1", "2-0", "5", "-inf", "(2"),
    "stop": ("-1", "3", "0", "7", "+", "[m9", "(m5", "+inf"),
    "end": ("-1", "5", "+", "9-0", "(20-1", "0"),
    "pattern": ("*", "m*", "m1?", "[a-z]*", "none"),
    "unit": ("m", "km", "ft", "mi", "x"),
    "function": ("put", "look", "nosuch"),
    "count": ("0", "1", "2", "5", "-1", "x"),
    "samples": ("0", "1", "5", "-1", "x"),
    "weight": ("1", "2.5", "-1", "0", "nan", "x"),
    "radius": ("100", "4000", "0", "-1", "x"),
    "width": ("100", "4000", "-1", "x"),
    "height": ("100", "9000", "x"),
    "cursor": ("0", "0", "0", "-1", "x"),
    "threshold": ("0", "1", "3", "5-0", "10"),
    "num-local": ("0", "1"),
}


def documents(reply: Sequence[Any]) -> Docs:
    """The arguments in a parsed reply to COMMAND DOCS."""
    found: dict[str, Sequence[Mapping[str, Any]]] = {}

    def walk(pairs: Sequence[Any]) -> None:
        for name, doc in zip(pairs[::2], pairs[1::2], strict=True):
            fields = _fields(doc)
            found[name.decode().upper()] = [_argument(each) for each in fields.get("arguments", ())]
            found["group " + name.decode().upper()] = fields["group"]
            walk(fields.get("subcommands", ()))

    walk(reply)
    return found


def _fields(flat: Sequence[Any]) -> dict[str, Any]:
    pairs = zip(flat[::2], flat[1::2], strict=True)
    return {name.decode(): value.decode() if isinstance(value, bytes) else value for name, value in pairs}


def _argument(flat: Sequence[Any]) -> dict[str, Any]:
    fields = _fields(flat)
    fields["flags"] = [each.decode() for each in fields.get("flags", ())]
    fields["arguments"] = [_argument(each) for each in fields.get("arguments", ())]
    return fields


class Shapes:
    """Makes requests.

    Args:
        digests: of the scripts that EVALSHA may name.
    """

    def __init__(self, rng: random.Random, docs: Docs, digests: Sequence[str]) -> None:
        self._rng = rng
        self._docs = docs
        self._digests = digests
        self._name = ""
        self._tag = ""
        self._keys = 0

    def requests(self, names: Sequence[str], count: int) -> Iterator[list[str]]:
        """So many, each command in turn before any comes again."""
        order: list[str] = []
        for _ in range(count):
            if not order:
                order = self._rng.sample(list(names), len(names))
            yield self.request(order.pop())

    def request(self, name: str) -> list[str]:
        """One request for a command, all of whose keys are on one shard."""
        rng = self._rng
        self._name, self._tag, self._keys = name, rng.choice(TAGS), 0
        words = [word for argument in self._docs[name] for word in self._argument(argument)]
        words = [self._late(word) for word in words]
        if rng.random() < 0.2:
            self._spoil(words)
        head = name.split("|")
        if rng.random() < 0.1:
            head = [word.lower() for word in head]
        return [*head, *words]

    def _spoil(self, words: list[str]) -> None:
        rng = self._rng
        at = rng.randrange(len(words) + 1)
        match rng.randrange(5):
            case 0 if at < len(words):
                del words[at]
            case 1 if at < len(words):
                words.insert(rng.randrange(len(words) + 1), words[at])
            case 2:
                words.insert(at, rng.choice(ODD))
            case 3 if at < len(words) and not words[at].startswith("{"):
                words[at] = rng.choice(ODD)
            case _ if at < len(words) and not words[at].startswith("{"):
                words[at] = words[at].swapcase()

    def _argument(self, argument: Mapping[str, Any]) -> list[str]:
        rng, flags = self._rng, argument["flags"]
        if "optional" in flags and rng.random() < 0.6:
            return []
        times = rng.choice((1, 1, 2, 3)) if "multiple" in flags else 1
        is_key = "key" in (argument["type"], *(inner["type"] for inner in argument["arguments"]))
        if is_key and "multiple" in flags:
            self._keys = times
        elif argument["name"].lower() == "id" and self._name.startswith("XREAD") and rng.random() < 0.9:
            times = self._keys
        words: list[str] = []
        for turn in range(times):
            if "token" in argument and (turn == 0 or "multiple_token" in flags):
                words.append(argument["token"])
            match argument["type"]:
                case "pure-token":
                    pass
                case "oneof":
                    words += self._argument(rng.choice(argument["arguments"]))
                case "block":
                    words += self._block(argument["arguments"])
                case _:
                    words.append(self.word(argument["name"], argument["type"]))
        return words

    def _late(self, word: str) -> str:
        """A word that depends on others, or on which command it is of."""
        rng = self._rng
        if word == NUMKEYS:
            return str(self._keys) if rng.random() < 0.9 else rng.choice(INTEGERS)
        if word == ID:
            special = [*_IDS.get(self._name, ("0",))]
            return rng.choice(special + [f"{rng.randrange(60)}-{rng.randrange(3)}" for _ in special])
        return word

    def _block(self, arguments: Sequence[Mapping[str, Any]]) -> list[str]:
        return [word for argument in arguments for word in self._argument(argument)]

    def word(self, name: str, kind: str) -> str:
        """A word for an argument of this name and type."""
        rng = self._rng
        if kind == "key":
            return self._key()
        if rng.random() < 0.03:
            return rng.choice(ODD)
        name = name.lower()
        if name == "milliseconds" and self._name.startswith("XREAD"):
            return rng.choice(("1", "2", "-1", "x"))
        if name in _WORDS:
            return rng.choice(_WORDS[name])
        make = _MAKERS.get(name) or _MAKERS[kind]
        return make(self, rng)

    def _key(self) -> str:
        rng, group = self._rng, self._docs["group " + self._name]
        fitting = KINDS.get(str(group), MIXED)
        if fitting != ("hll",) and rng.random() < 0.12:
            fitting = (*MIXED, "none")
        return f"{self._tag}:{rng.choice(fitting)}:{rng.randrange(3)}"


def _member(_: Shapes, rng: random.Random) -> str:
    return f"m{rng.randrange(12)}"


def _digest(shapes: Shapes, rng: random.Random) -> str:
    return rng.choice(shapes._digests)


_MAKERS: Mapping[str, Callable[[Shapes, random.Random], str]] = {
    "member": _member,
    "field": _member,
    "member1": _member,
    "member2": _member,
    "id": lambda _, __: ID,
    "last-id": lambda _, __: ID,
    "numkeys": lambda _, __: NUMKEYS,
    "script": lambda _, rng: rng.choice(SCRIPTS),
    "sha1": _digest,
    "longitude": lambda _, rng: f"{rng.uniform(-181, 181):.4f}",
    "latitude": lambda _, rng: f"{rng.uniform(-86, 86):.4f}",
    "integer": lambda _, rng: rng.choice(INTEGERS),
    "double": lambda _, rng: rng.choice(("0", "1.5", "-0.25", "10", "3e2", "-inf", "inf", "1e17")),
    "string": lambda _, rng: rng.choice(_STRINGS),
    "pattern": lambda _, rng: rng.choice(("*", "m*", "none")),
    "unix-time": lambda _, rng: rng.choice((str(FUTURE + rng.randrange(1000)), "1", "-1", "0", "x")),
}
