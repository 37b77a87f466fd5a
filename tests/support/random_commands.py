"""Random but valid-looking Redis and memcached requests, for comparing a proxy with one plain server.

Called by tests/integration/test_differential.py. What is made here has one right answer: nothing in it
depends on a clock, on chance inside the server, or on the order of a hash table (`UNORDERED` lists the
commands whose answers are equal only as multisets).
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping

TAGS = [f"{{{name}}}" for name in ("apple", "b", "cherry7", "delta", "e-5", "fig", "grape", "h:h")]
"""Keys are spread over shards by these hash tags, so that commands with several keys can be made that
one shard can answer, and others that none can."""

TYPES = ("str", "num", "list", "hash", "set", "zset", "stream", "hll", "geo", "bits")
FUTURE = 4_000_000_000
"""A unix time in seconds; expiry is absolute here, since a relative one reads differently a moment later."""


MIXED = tuple(kind for kind in (*TYPES, "missing") if kind != "hll")
"""Kinds of keys any command may be given. PFCOUNT stores the count it made in the value, on the replica that
was read, so a HyperLogLog is equal on all replicas only as far as PFCOUNT shows it, not to APPEND."""


def _key(kind: str) -> Callable[[random.Random, str], str]:
    def make(rng: random.Random, tag: str) -> str:
        # One in twenty is of the wrong type, one in twenty is missing.
        chosen = rng.choice(MIXED) if rng.random() < 0.05 and kind != "hll" else kind
        name = "none" if rng.random() < 0.05 and kind != "hll" else chosen
        return f"{tag}:{name}:{rng.randrange(3)}"

    return make


def _any_of(*words: str) -> Callable[[random.Random, str], str]:
    return lambda rng, _: rng.choice(words)


VALUES = ("", "v", "x" * 70, "1", "-7", "3.25", "a b", "ä\r\n$3\r\n")

WORDS: Mapping[str, Callable[[random.Random, str], str]] = {
    **{kind: _key(kind) for kind in TYPES},
    "any": lambda rng, tag: _key(rng.choice(MIXED))(rng, tag),
    "val": lambda rng, _: rng.choice(VALUES) + str(rng.randrange(9)),
    "int": lambda rng, _: str(rng.choice([-100, -3, -2, -1, 0, 0, 1, 1, 2, 3, 5, 17, 1000])),
    "count": lambda rng, _: str(rng.randrange(4)),
    "few": _any_of("0", "1", "1", "-1", "x"),
    "float": _any_of("1.5", "-0.25", "10", "3e2", "nan", "inf", "x"),
    "member": lambda rng, _: f"m{rng.randrange(12)}",
    "score": lambda rng, _: str(rng.randrange(20)),
    "bound": _any_of("-inf", "+inf", "(3", "5", "12", "(x"),
    "lex": _any_of("-", "+", "[m3", "(m7", "m1"),
    "bit": _any_of("0", "1", "1", "2"),
    "offset": lambda rng, _: str(rng.randrange(200)),
    "id": lambda rng, _: f"{rng.randrange(1, 40)}-{rng.randrange(3)}",
    "unit": _any_of("m", "km", "mi", "ft", "yd"),
    "lon": lambda rng, _: f"{rng.uniform(-180, 180):.4f}",
    "lat": lambda rng, _: f"{rng.uniform(-85, 85):.4f}",
    "when": lambda rng, _: str(FUTURE + rng.randrange(1000)),
    "where": _any_of("BEFORE", "AFTER"),
    "end": _any_of("LEFT", "RIGHT"),
}  # fmt: skip
"""What stands for a word in lower case in a template."""

TEMPLATES = """
SET str val | SET str val NX | SET str val XX GET | SET str val EXAT when | SET str val KEEPTTL
SET num int | GET str | GET any | GETSET str val | GETDEL str | GETEX str PERSIST | GETEX str EXAT when
GETRANGE str int int | SUBSTR str int int | SETRANGE str offset val | APPEND str val | STRLEN str
SETNX str val | LCS str str | LCS str str LEN | INCR num | DECR num | INCRBY num int | DECRBY num int
INCRBYFLOAT num float | INCR str | MGET str str str | MGET str num list none | MSET str val str val str val
MSET str val str val num | MSETNX str val str val | DEL any any any | DEL any | UNLINK any any
EXISTS any any any | TOUCH any any any | EXISTS any | TYPE any | OBJECT ENCODING any | OBJECT REFCOUNT hash
EXPIREAT any when | PEXPIREAT any 4000000000123 | EXPIRETIME any | PEXPIRETIME any | PERSIST any
EXPIREAT any when GT | EXPIREAT any when NX | EXPIREAT any 1 | RENAME any any | RENAMENX any any
COPY any any | COPY any any REPLACE | COPY any any DB 0 | LPUSH list val val | RPUSH list val
LPUSHX list val | RPUSHX list val val | LPOP list | RPOP list count | LLEN list | LRANGE list int int
LRANGE list 0 -1 | LINDEX list int | LINSERT list where val val | LREM list int val | LSET list int val
LTRIM list int int | LPOS list val | LPOS list val RANK 1 COUNT 0 | LMOVE list list end end
RPOPLPUSH list list | BLPOP list list 0.001 | BRPOP list list list 0.001 | BLMOVE list list end end 0.001
BRPOPLPUSH list list 0.001 | BLMPOP 0.001 2 list list LEFT COUNT 2 | LMPOP few list end
LMPOP 2 list list LEFT COUNT 2 | HSET hash member val member val | HSET hash member
HSETNX hash member val | HGET hash member | HMGET hash member member
HMSET hash member val | HGETALL hash | HKEYS hash | HVALS hash | HLEN hash | HDEL hash member member
HEXISTS hash member | HINCRBY hash member int | HINCRBYFLOAT hash member float | HSTRLEN hash member
SADD set member member | SREM set member | SISMEMBER set member | SMISMEMBER set member member | SCARD set
SMEMBERS set | SMOVE set set member | SINTER set set | SUNION set set | SDIFF set set | SINTERCARD 2 set set
SINTERCARD few set | SINTERSTORE set set set | SUNIONSTORE set set set | SDIFFSTORE set set set
SADD set int int | SORT set ALPHA | SORT list | SORT list LIMIT 0 3 DESC ALPHA | SORT list STORE list
SORT_RO set ALPHA | ZADD zset score member score member | ZADD zset NX score member
ZADD zset XX CH score member | ZADD zset GT score member | ZADD zset INCR float member
ZADD zset member score | ZREM zset member | ZSCORE zset member | ZMSCORE zset member member
ZINCRBY zset float member | ZCARD zset | ZCOUNT zset bound bound | ZLEXCOUNT zset lex lex
ZRANGE zset int int | ZRANGE zset 0 -1 WITHSCORES | ZRANGE zset bound bound BYSCORE LIMIT 0 2
ZRANGE zset lex lex BYLEX | ZRANGE zset 0 -1 REV | ZREVRANGE zset int int WITHSCORES
ZRANGEBYSCORE zset bound bound | ZREVRANGEBYSCORE zset bound bound WITHSCORES | ZRANGEBYLEX zset lex lex
ZREVRANGEBYLEX zset lex lex | ZRANK zset member | ZREVRANK zset member | ZPOPMIN zset | ZPOPMAX zset count
BZPOPMIN zset zset 0.001 | BZPOPMAX zset 0.001 | BZMPOP 0.001 2 zset zset MIN COUNT 2
ZMPOP 1 zset MIN | ZMPOP 2 zset zset MAX COUNT 2 | ZREMRANGEBYRANK zset int int
ZREMRANGEBYSCORE zset bound bound | ZREMRANGEBYLEX zset lex lex | ZUNION 2 zset zset WITHSCORES
ZINTER 2 zset zset | ZDIFF 2 zset zset WITHSCORES | ZUNIONSTORE zset 2 zset zset
ZINTERSTORE zset 2 zset set AGGREGATE MAX | ZDIFFSTORE zset 2 zset zset | ZRANGESTORE zset zset 0 3
ZINTERCARD 2 zset zset LIMIT 2 | XADD stream id member val | XADD stream MAXLEN 5 id member val
XLEN stream | XRANGE stream - + | XRANGE stream id id COUNT 2 | XREVRANGE stream + - COUNT 3
XDEL stream id | XTRIM stream MAXLEN count | XREAD COUNT 2 STREAMS stream id
XREAD BLOCK 1 COUNT 2 STREAMS stream id | XREADGROUP GROUP g1 c1 BLOCK 1 COUNT 2 STREAMS stream >
XREAD STREAMS stream stream 0 0 | XREAD STREAMS stream stream 0 | XGROUP CREATE stream g1 0 MKSTREAM
XGROUP DESTROY stream g1 | XGROUP SETID stream g1 id | XGROUP CREATECONSUMER stream g1 c1
XGROUP DELCONSUMER stream g1 c1 | XACK stream g1 id | XREADGROUP GROUP g1 c1 COUNT 2 STREAMS stream >
XREADGROUP GROUP g1 c1 STREAMS stream 0 | XPENDING stream g1 | XCLAIM stream g1 c2 0 id JUSTID
XAUTOCLAIM stream g1 c2 0 0 COUNT 2 JUSTID | XINFO GROUPS stream | XSETID stream id | PFADD hll val val
PFCOUNT hll | PFCOUNT hll hll | PFMERGE hll hll hll | PFMERGE hll | GEOADD geo lon lat member
GEODIST geo member member unit | GEOPOS geo member member | GEOHASH geo member
GEOSEARCH geo FROMLONLAT lon lat BYRADIUS 5000 km ASC COUNT 3
GEOSEARCH geo FROMMEMBER member BYBOX 9000 9000 km ASC WITHDIST
GEOSEARCHSTORE geo geo FROMLONLAT lon lat BYRADIUS 9000 km ASC | GEORADIUS geo lon lat 4000 km ASC
GEORADIUS geo lon lat 4000 km STORE zset | GEORADIUSBYMEMBER geo member 4000 km ASC WITHCOORD
GEORADIUS_RO geo lon lat 900 mi ASC | SETBIT bits offset bit | GETBIT bits offset | BITCOUNT bits
BITCOUNT bits int int BIT | BITPOS bits bit | BITOP AND bits bits bits | BITOP NOT bits bits
BITFIELD bits SET u8 offset 200 GET i5 3 | BITFIELD bits OVERFLOW FAIL INCRBY u4 1 9
BITFIELD_RO bits GET u16 0 | PING | PING val | ECHO val | SELECT 0 | NOSUCH any val | GET | SET str
LPUSH list | XGROUP NOSUCH any | OBJECT NOSUCH any | DBSIZE | KEYS * | KEYS {b}* | KEYS *:list:? | KEYS none
DBSIZE val | KEYS | SCAN nan | SCAN 0 COUNT 0 | SCAN 0 COUNT nan | SCAN 0 TYPE | SCAN 0 NOSUCH 1 | SCAN -x
FLUSHALL val | FLUSHDB ASYNC SYNC | SCRIPT EXISTS val | COMMAND GETKEYSANDFLAGS SET str val
COMMAND GETKEYSANDFLAGS SORT list STORE list | COMMAND GETKEYSANDFLAGS ZUNIONSTORE zset 2 zset zset
"""

UNORDERED = frozenset(("SMEMBERS", "SINTER", "SUNION", "SDIFF", "HGETALL", "HKEYS", "HVALS", "KEYS"))
"""Answers in the order of a hash table, which differs from server to server."""


def redis_templates() -> list[list[str]]:
    """The words of each template."""
    lines = TEMPLATES.replace("\n", "|").split("|")
    return [line.split() for line in lines if line.strip()]


def redis_commands(rng: random.Random, count: int, *, spread: float) -> Iterator[list[str]]:
    """Random commands by `TEMPLATES`.

    Args:
        spread: share of the commands whose keys do not all have one hash tag. Those whose keys may be
            anywhere (MGET and its like) always have keys of several.
    """
    templates = redis_templates()
    for _ in range(count):
        template = rng.choice(templates)
        several = template[0] in ("MGET", "MSET", "DEL", "UNLINK", "EXISTS", "TOUCH") or rng.random() < spread
        tag = rng.choice(TAGS)
        yield [WORDS[w](rng, rng.choice(TAGS) if several else tag) if w in WORDS else w for w in template]


ODD_WORDS = """
-1 0 1 2 3 10 99999999999999999999 9223372036854775807 -9223372036854775808 1.5 nan abc LEFT RIGHT MIN MAX
BEFORE AFTER AND OR NOT XOR COUNT LIMIT WITHSCORES STREAMS STORE NX XX GT LT CH INCR KEEPTTL GET FIELDS
BYSCORE BYLEX REV WEIGHTS AGGREGATE SUM - + [a (b 0-1 5-5 > $ MAXLEN ~ = MKSTREAM GROUP RANK MATCH ALPHA ASC
DESC REPLACE DB km u8 i16 FROMMEMBER BYRADIUS u64
"""


def odd_redis_commands(
    rng: random.Random, count: int, arity: Mapping[str, int], *, spread: float
) -> Iterator[list[str]]:
    """Commands by name and number of words only, most of them wrong: what a server says to that.

    Args:
        arity: by name, containers as ``NAME|SUBCOMMAND``; as COMMAND INFO says it.
    """
    names, odd = sorted(arity), ODD_WORDS.split()
    for _ in range(count):
        name = rng.choice(names)
        words = name.split("|")
        least = abs(arity[name]) - (rng.random() < 0.05)
        most = abs(arity[name]) + (0 if arity[name] > 0 and rng.random() < 0.95 else rng.randrange(4))
        tag = rng.choice(TAGS)
        while len(words) < rng.randint(least, max(least, most)):
            where = rng.choice(TAGS) if rng.random() < spread else tag
            is_key = len(words) < 2 or rng.random() < 0.4
            words.append(WORDS["any"](rng, where) if is_key else rng.choice(odd))
        yield words


MEMCACHED_TEMPLATES = """
get key | get key | get key key key | gets key | gets key key | set key flags exptime block
set key flags exptime block | add key flags exptime block | replace key flags exptime block
append key flags exptime block | prepend key 0 0 block | set num 0 0 number | incr num delta
decr num delta | incr key delta | incr num word | delete key | delete key 0 | delete key 5
touch key exptime | touch key word | gat exptime key | gat exptime key key | gats exptime key
get key num missing key | stats cachedump 1 word | stats detail | lru_crawler
cache_memlimit word | flush_all word | shutdown | slabs word | lru word | gat 0 | delete noreply | stats word
config word | get key full | gets full | set long 0 0 block | add long 0 0 block | incr long 1 |
delete long | touch long 0 | gat 0 full | append long 0 0 block | cas key flags exptime swap |
cas key flags exptime swap | cas missing 0 0 swap | cas long 0 0 swap | cas key word 0 swap |
set key word 0 block | verbosity 1 | bogus key | get | touch key | incr num
gat word key
"""

# Not among them: a plus before a number, flags and times beyond 32 bits. memcached 1.6.18 takes those, other
# versions refuse the line and then read the data block as commands, so the proxy refuses them.
MEMCACHED_WORDS: Mapping[str, Callable[[random.Random], str]] = {
    "key": lambda rng: f"k{rng.randrange(40)}",
    # memcached 1.6.18 answers a get of a longer key with an error that drops the answers before it.
    "full": lambda rng: "x" * 250,
    "long": lambda rng: "x" * rng.choice([250, 251]),
    "num": lambda rng: f"n{rng.randrange(5)}",
    "missing": lambda rng: "none",
    "flags": lambda rng: rng.choice(["0", "1", "4294967295", "-1", "x"]),
    "exptime": lambda rng: rng.choice(["0", "0", "0", "2000000000", "-1", "100000"]),
    "delta": lambda rng: rng.choice(["0", "1", "7", "1000000", "-1", "99999999999999999999"]),
    "word": lambda rng: rng.choice(["x", "1x", "-", "1.5", "99999999999999999999"]),
}
TOKENS = ("{token}", "{token}", "{token}", "{old}", "1099511627776", "0", "x", "-1", "18446744073709551616")
"""What stands for a CAS token: the key's last one or the one before, which each side knows for itself; one
that nobody has; and what is none."""
TOKEN = re.compile(rb"^cas (\S+) .*(\{token\}|\{old\})")

BLOCKS: Mapping[str, Callable[[random.Random], bytes]] = {
    # Never a digit and a blank: such a value counts as a number, and what incr makes of it is as long as
    # before or not, by who else holds the item at that moment.
    "block": lambda rng: rng.randbytes(rng.choice([0, 1, 5, 30, 2000])).lstrip(b"0123456789"),
    # Below 2**63: for a larger one memcached 1.6.18 looks for a minus behind the value, past its end.
    "number": lambda rng: rng.choice([b"0", b"10", b"99", b"999999", b"5 "]),
    # Behind a token.
    "swap": lambda rng: rng.randbytes(rng.choice([0, 1, 30])).lstrip(b"0123456789"),
}


def memcached_requests(rng: random.Random, count: int) -> Iterator[bytes]:
    """Random requests of the classic text protocol, some of them wrong in ways that are one line long.

    In the place of `{token}` and `{old}` in a `cas` (`TOKEN`) goes what the server that is asked gave out.
    """
    templates = [line.split() for line in MEMCACHED_TEMPLATES.replace("\n", "|").split("|") if line.strip()]
    for _ in range(count):
        template = rng.choice(templates)
        block = BLOCKS[template[-1]](rng) if template[-1] in BLOCKS else None
        words = [MEMCACHED_WORDS[w](rng) if w in MEMCACHED_WORDS else w for w in template if w not in BLOCKS]
        if block is not None:
            words.append(str(len(block)))
        if template[-1] == "swap":
            words.append(rng.choice(TOKENS))
        if template[0] not in ("get", "gets", "gat", "gats", "bogus") and rng.random() < 0.1:
            words.append("noreply")
        line = " ".join(words).encode() + b"\r\n"
        yield line if block is None else line + block + b"\r\n"
