"""Random requests of memcached's meta commands, for comparing a proxy with one plain server.

Called by tests/integration/test_meta_differential.py. Nothing in them depends on a second more or less: times
to live are far from each other, and from the times they are compared with. Numbers are never stale, won or
asked whether they were read, and are given no time by `ma T`: counting keeps the one and takes the other or
not by who else holds the item at that moment.
"""

import base64
import random
from dataclasses import dataclass

TEXT_KEYS = [b"m%d" % n for n in range(12)]
BINARY_KEYS = [b"\x00bin\r\n%d" % n for n in range(4)] + [b"a b", b"\xff" * 40]
NUMBER_KEYS = [b"n%d" % n for n in range(4)]
ALL_KEYS = [*TEXT_KEYS, *BINARY_KEYS, *NUMBER_KEYS]

TIMES = [b"0", b"0", b"1000", b"100000", b"-1"]
RECACHE_TIMES = [b"30", b"5000", b"200000"]
NUMBERS = [b"0", b"1", b"7", b"1000000"]


@dataclass(frozen=True)
class Ask:
    """One request.

    Args:
        before, after: around the CAS token, if it compares one.
        key: whose token that is; None if it compares none.
        old: a token that the key had before, if one is known.
    """

    before: bytes
    after: bytes = b""
    key: bytes | None = None
    old: bool = False


def named(rng: random.Random, key: bytes) -> tuple[bytes, list[bytes]]:
    """A key as it stands in a request, and the flag that says so."""
    # That it was stored by a name in base64 is a mark too, which counting may take away.
    if key in BINARY_KEYS or (key not in NUMBER_KEYS and rng.random() < 0.1):
        return base64.b64encode(key), [b"b"]
    return key, []


def some(rng: random.Random, flags: list[bytes], most: int) -> list[bytes]:
    """A few of them, in any order."""
    return rng.sample(flags, rng.randint(0, min(most, len(flags))))


def meta_requests(rng: random.Random, count: int, *, newer: bool) -> list[Ask]:
    """Random requests, some of them wrong.

    Args:
        newer: of what came after memcached 1.6.18 too.
    """
    makers = [get, get, get, store, store, store, delete, count_up, odd]
    return [rng.choice(makers)(rng, newer) for _ in range(count)]


def finish(rng: random.Random, name: bytes, words: list[bytes], flags: list[bytes], key: bytes) -> Ask:
    """The line, with a CAS token of the key where the flag ``C`` stands."""
    rng.shuffle(flags)
    line = b" ".join([name, *words, *flags])
    if b"C" not in flags:
        return Ask(line)
    at = flags.index(b"C")
    before = b" ".join([name, *words, *flags[:at], b"C"])
    after = b"".join(b" " + flag for flag in flags[at + 1 :])
    return Ask(before, after, key, rng.random() < 0.3)


def common(rng: random.Random, binary: list[bytes]) -> list[bytes]:
    """Flags of all commands."""
    opaque = [b"O" + b"x" * rng.choice([0, 1, 31])]
    # Of an item that is not marked as one of a binary key, a server shows the key raw, line ends and all.
    key = [] if binary else [b"k"]
    return binary + some(rng, [*key, b"q", b"Lhint", b"P/a/b", *opaque], 3)


def get(rng: random.Random, newer: bool) -> Ask:
    """``mg``, also vivifying, winning and touching."""
    key = rng.choice(ALL_KEYS)
    word, binary = named(rng, key)
    shown = [b"c", b"f", b"l", b"t", b"u", b"v", *([] if key in NUMBER_KEYS else [b"h", b"s"])]
    flags = common(rng, binary) + some(rng, shown, 4)
    if rng.random() < 0.4 and key not in NUMBER_KEYS:
        flags += some(
            rng, [b"N" + rng.choice(TIMES[:4]), b"R" + rng.choice(RECACHE_TIMES), b"T" + rng.choice(TIMES)], 2
        )
    if newer and rng.random() < 0.1:
        flags += [b"C"]
    if newer and rng.random() < 0.1:
        flags += [b"E%d" % rng.randrange(1, 1 << 40)]
    return finish(rng, b"mg", [word], flags, key)


def store(rng: random.Random, newer: bool) -> Ask:
    """``ms`` in all its modes."""
    key = rng.choice(ALL_KEYS)
    word, binary = named(rng, key)
    # Never a number: counting would come out by who else holds the item. Nor blank: to find a number servers
    # look past its end.
    data = rng.randbytes(rng.choice([0, 1, 20, 500])).lstrip(b"0123456789+- \t\n\v\f\r")
    if key in NUMBER_KEYS:
        data = rng.choice([b"0", b"10", b"99", b"999999"])
    flags = common(rng, binary) + some(
        rng, [b"c", b"T" + rng.choice(TIMES), b"F%d" % rng.choice([0, 5, (1 << 32) - 1])], 3
    )
    # Of one that is appended to a number nobody knows what it counts as.
    modes = [b"E", b"R", b"S"] if key in NUMBER_KEYS else [b"E", b"A", b"P", b"R", b"S"]
    flags += some(rng, [b"M" + rng.choice(modes)], 1)
    if rng.random() < 0.3:
        flags += [b"C"] + ([] if key in NUMBER_KEYS or b"\n" in key else some(rng, [b"I"], 1))
    if newer:
        flags += some(rng, [b"N" + rng.choice(TIMES[:4])], 1) + some(rng, [b"s"], 1)
        if rng.random() < 0.15:
            flags += [b"E%d" % rng.randrange(1, 1 << 40)]
    ask = finish(rng, b"ms", [word, b"%d" % len(data)], flags, key)
    if ask.key is None:
        return Ask(ask.before + b"\r\n" + data)
    return Ask(ask.before, ask.after + b"\r\n" + data, ask.key, ask.old)


def delete(rng: random.Random, newer: bool) -> Ask:
    """``md``, also marking as stale."""
    key = rng.choice(ALL_KEYS)
    word, binary = named(rng, key)
    flags = common(rng, binary)
    if rng.random() < 0.6 and key not in NUMBER_KEYS:
        flags += [b"I", *some(rng, [b"T" + rng.choice(TIMES)], 1)]
    if rng.random() < 0.3:
        flags += [b"C"]
    if newer and rng.random() < 0.2:
        flags += [b"x"]
    return finish(rng, b"md", [word], flags, key)


def count_up(rng: random.Random, newer: bool) -> Ask:
    """``ma``."""
    key = rng.choice(NUMBER_KEYS) if rng.random() < 0.9 else rng.choice(TEXT_KEYS)
    word, binary = named(rng, key)
    flags = common(rng, binary) + some(
        rng,
        [b"c", b"t", b"v", b"D" + rng.choice(NUMBERS), b"M" + rng.choice([b"I", b"D", b"+", b"-"])],
        4,
    )
    if rng.random() < 0.4 and key in NUMBER_KEYS:
        flags += [b"N" + rng.choice(TIMES[:4]), *some(rng, [b"J" + rng.choice(NUMBERS)], 1)]
        if not newer and b"q" in flags:
            flags.remove(b"q")  # 1.6.18 does not hide what is vivified
    if rng.random() < 0.2:
        flags += [b"C"]
    return finish(rng, b"ma", [word], flags, key)


ODD_LINES = """
mg|mg |md|ma|ms|me|mn|mn x|mx key|me m0|me m1|mg m0 v v|mg n0 W|mg m0 Tx|mg m0 T|mg m0 N1.5|mg m0 R|mg m0 C
md m0 C|md m0 Cx|md n0 Z|ma n0 D|ma n0 Dx|ma n0 D-1|ma n0 Jx N0|ma n0 MX|ma n0 MIx|ma n0 N|ma m0 D1
ms m0|ms m0 x|ms m0 -1|ms m0 1x|mg m0 b|mg m0 b k|mg A=== b|mg KEY|mg KEY v|md KEY|ma KEY|mg FULL k|mg FULL v
mg m1 a b c d e f g h i j k l m n o p q r s t u v w x y z|md m1 v v|ma m1 v v|mg none OOOOLONG v
md none OOOOLONG|mg m0  v   k|mg m1 v123|MG m0|mget m0
""".replace("\n", "|")
STORES = """
ms m2 3 v v|ms n2 3 W|ms m2 3 Mx|ms m2 3 M|ms m2 3 T|ms m2 3 Tx|ms n2 3 F-1|ms m2 3 Fx|ms m2 3 Cx|ms A=== 3 b
ms m2 3  T0|ms m2 3 O k OO
""".replace("\n", "|")


def odd(rng: random.Random, newer: bool) -> Ask:
    """What is wrong or unusual, as servers of all versions frame it alike."""
    if rng.random() < 0.25:
        lines = [line for line in STORES.split("|") if line]
        return Ask(rng.choice(lines).encode() + b"\r\nabc")
    line = rng.choice([line for line in ODD_LINES.split("|") if line.strip()])
    line = line.replace("KEY", "k" * 251).replace("FULL", "f" * 250).replace("OOOOLONG", "O" + "o" * 32)
    return Ask(line.encode())
