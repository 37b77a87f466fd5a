"""Random writes to a few keys, many of them such that the same bytes act differently on two servers.

Called by integration tests that compare replicas afterwards. Each protocol has a function that makes
one request and one that reads one answer, whatever it says.
"""

import random
from collections.abc import Callable

from support.store import Store, command

INCREMENT_AND_PUSH = "redis.call('INCR', KEYS[1]); return redis.call('TIME')[2]"
RANDOM_TEXT = "return redis.call('SET', KEYS[1], math.random() .. redis.call('TIME')[2])"


def transaction(*requests: bytes, watch: str = "") -> bytes:
    """A transaction of these requests, which may watch a key. Its replies begin with the first "QUEUED"."""
    skip = command("CLIENT", "REPLY", "SKIP")
    watching = skip + command("WATCH", watch) if watch else b""
    return b"".join((watching, skip, command("MULTI"), *requests, command("EXEC")))


def redis_write(rng: random.Random) -> bytes:
    n = rng.randrange(4)
    value = rng.randrange(1000)
    return rng.choice(REDIS_WRITES)(n, value, rng)


REDIS_WRITES: list[Callable[[int, int, random.Random], bytes]] = [
    lambda n, v, r: command("SET", f"s{n}", v),
    lambda n, v, r: command("SET", f"s{n}", v, "NX"),
    lambda n, v, r: command("SET", f"s{n}", v, "XX", "GET"),
    lambda n, v, r: command("SETNX", f"s{n}", v),
    lambda n, v, r: command("GETSET", f"s{n}", v),
    lambda n, v, r: command("GETDEL", f"s{n}"),
    lambda n, v, r: command("APPEND", f"a{n}", v),
    lambda n, v, r: command("INCR", f"i{n}"),
    lambda n, v, r: command("INCRBYFLOAT", f"f{n}", f"{r.random():.17g}"),
    lambda n, v, r: command("HINCRBYFLOAT", f"h{n}", "x", f"{r.random():.17g}"),
    lambda n, v, r: command("HSET", f"h{n}", f"field{v % 7}", v),
    lambda n, v, r: command("SADD", f"set{n}", *(v + i for i in range(4))),
    lambda n, v, r: command("SPOP", f"set{n}"),
    lambda n, v, r: command("SPOP", f"set{n}", 2),
    lambda n, v, r: command("SMOVE", f"set{n}", f"set{n}", v),
    lambda n, v, r: command("XADD", f"x{n}", "*", "v", v),
    lambda n, v, r: command("XADD", f"x{n}", "MAXLEN", "~", 20, "*", "v", v),
    lambda n, v, r: command("XTRIM", f"x{n}", "MAXLEN", "=", 10),
    lambda n, v, r: command("LPUSH", f"l{n}", v),
    lambda n, v, r: command("RPOP", f"l{n}", 2),
    lambda n, v, r: command("ZADD", f"z{n}", "INCR", f"{r.random():.17g}", v % 9),
    lambda n, v, r: command("ZPOPMIN", f"z{n}"),
    lambda n, v, r: command("PFADD", f"p{n}", v),
    lambda n, v, r: command("EVAL", INCREMENT_AND_PUSH, 1, f"i{n}"),
    lambda n, v, r: command("EVAL", RANDOM_TEXT, 1, f"e{n}"),
    lambda n, v, r: command("SETEX", f"t{n}", 1000, v),
    lambda n, v, r: command("GETEX", f"t{n}", "EX", 2000),
    lambda n, v, r: command("PERSIST", f"t{n}"),
    lambda n, v, r: command("MSET", f"s{n}", v, f"s{(n + 1) % 4}", v + 1),
    lambda n, v, r: command("DEL", f"s{n}", f"set{n}", f"l{n}"),
    lambda n, v, r: command("COPY", f"set{n}", f"set{n}", "DB", v % 4, "REPLACE"),
    lambda n, v, r: command("MOVE", f"l{n}", v % 4),
    lambda n, v, r: command("LPUSH", f"s{n}", v),  # refused by every server alike, if it is a string
    lambda n, v, r: command("GET", f"s{n}"),
    lambda n, v, r: command("SMEMBERS", f"set{n}"),
    lambda n, v, r: transaction(command("SET", f"s{n}", v), command("DEL", f"s{(n + 1) % 4}")),
    lambda n, v, r: transaction(
        command("INCR", f"i{n}"), command("GET", f"s{n}"), command("APPEND", f"a{n}", v)
    ),
    lambda n, v, r: transaction(
        command("SPOP", f"set{n}"), command("SMEMBERS", f"set{n}"), command("INCR", f"i{n}")
    ),
    lambda n, v, r: transaction(command("XADD", f"x{n}", "*", "v", v), command("SETEX", f"t{n}", 1000, v)),
    lambda n, v, r: transaction(command("MSET", "s0", v, "s1", v, "s2", v), command("LPUSH", f"s{n}", v)),
    lambda n, v, r: transaction(command("RPUSH", f"l{n}", v), command("MOVE", f"l{n}", v % 4)),
    lambda n, v, r: transaction(command("SET", f"s{n}", v), watch=f"s{n}"),
    lambda n, v, r: transaction(
        command("INCR", f"i{n}"), command("EVAL", RANDOM_TEXT, 1, f"i{n}"), watch=f"i{n}"
    ),
    lambda n, v, r: transaction(command("SADD", f"set{n}", v), command("SCARD", f"set{n}"), watch=f"set{n}"),
    lambda n, v, r: transaction(command("GET", f"s{n}"), watch=f"s{n}"),
]


def read_redis(client: Store) -> None:
    while client.raw.read_reply() == b"+QUEUED\r\n":
        pass


def memcached_write(rng: random.Random) -> bytes:
    key = b"k%d" % rng.randrange(5)
    text = b"%d" % rng.randrange(1000)
    verb = rng.choice([b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
    storage = b"%b %b %d %d %d" % (verb, key, rng.randrange(9), rng.choice([0, 0, 1000]), len(text))
    if verb == b"cas":
        storage += b" %d" % rng.randrange(1, 200)  # sometimes the right one, since they count up
    return rng.choice(
        [
            storage + b"\r\n" + text + b"\r\n",
            storage + b"\r\n" + text + b"\r\n",
            b"incr %b 7\r\n" % key,
            b"decr %b 3\r\n" % key,
            b"delete %b\r\n" % key,
            b"touch %b 2000\r\n" % key,
            b"gat 3000 %b k0 k1\r\n" % key,
            b"gat 0 %b\r\n" % key,
            b"get %b k2\r\n" % key,
        ]
    )


def read_memcached(client: Store) -> None:
    line = client.raw.read_line()
    while line.startswith(b"VALUE "):
        client.raw.read_exactly(int(line.split()[3]) + 2)
        line = client.raw.read_line()


RANDOM_WRITES: dict[str, tuple[Callable[[random.Random], bytes], Callable[[Store], None]]] = {
    "redis": (redis_write, read_redis),
    "memcached": (memcached_write, read_memcached),
}
