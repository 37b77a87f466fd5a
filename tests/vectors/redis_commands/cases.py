"""The requests whose answers ``generate.py`` records. Add here, generate again, run the tests."""

from dataclasses import dataclass, field

GETKEYS: list[str] = """
GET k
SET k v EX 5
GETRANGE k 0 1
MGET a b c
MSET a 1 b 2
MSETNX a 1
DEL a b
EXISTS a a
RENAME a b
COPY a b REPLACE
BITOP AND d a b
LCS a b LEN
PFCOUNT a b
PFMERGE d
PFMERGE d a b
SDIFFSTORE d a b
SMOVE a b m
LMOVE a b LEFT RIGHT
LMPOP 2 a b LEFT
LMPOP 3 a b LEFT
LMPOP x a LEFT
SINTERCARD 2 a b LIMIT 1
ZUNION 2 a b WEIGHTS 1 2
ZUNION 0 a
ZUNION -1 a
ZUNIONSTORE d 2 a b
ZDIFFSTORE d 1 a
ZINTERCARD 2 a b
ZMPOP 1 a MIN
ZRANGESTORE d s 0 -1
GEOSEARCHSTORE d s FROMLONLAT 1 1 BYRADIUS 1 km
GEORADIUS g 1 1 1 km
GEORADIUS g 1 1 1 km STORE d
GEORADIUS g 1 1 1 km COUNT 1 storedist d
GEORADIUSBYMEMBER g m 1 km STORE d
EVAL s 2 a b c
EVAL s 0 c
EVAL s 3 a b
EVAL s x a
EVALSHA s 1 a
EVAL_RO s 1 a
FCALL f 1 a b
FCALL_RO f 0
XADD s * f v
XREAD STREAMS a 0
XREAD COUNT 1 STREAMS a b 0 0
XREAD BLOCK 0 streams a b c 0 0 0
XREADGROUP GROUP g c COUNT 1 NOACK STREAMS a b > >
XREADGROUP GROUP streams streams STREAMS a >
XGROUP CREATE s g $
XINFO STREAM s FULL
XCLAIM s g c 0 1-1
OBJECT ENCODING k
MEMORY USAGE k SAMPLES 5
SORT k
SORT k LIMIT 0 1 ALPHA STORE d
SORT k BY nosort GET # STORE d DESC
SORT k STORE a STORE b
SORT_RO k BY nosort
MIGRATE h 1 k 0 5
BLPOP a b 0
BLMPOP 0 2 a b LEFT
BZPOPMIN a b 0
HSCAN k 0
PING
""".strip().splitlines()
"""Argument lists for COMMAND GETKEYS."""


@dataclass(frozen=True)
class Script:
    """Requests of one connection, in order.

    ``users`` exist while it runs; none means that nobody has to log in. ``muted`` requests get no
    reply.
    """

    requests: list[str | list[str]]
    users: dict[str, str] = field(default_factory=dict)
    muted: frozenset[str] = frozenset()


LONG = "x" * 200

REPLIES: list[Script] = [
    Script(["HELLO", "HELLO 2", "HELLO 3", "HELLO", "HELLO 2 SETNAME me", "CLIENT GETNAME"]),
    Script(
        [
            "HELLO 1",
            "HELLO 4",
            "HELLO x",
            "HELLO 03",
            "HELLO 3 FOO",
            "HELLO 3 AUTH a",
            "HELLO 3 SETNAME",
            ["HELLO", "3", "SETNAME", "a b"],
            "HELLO 3 AUTH nobody pw",
            "CLIENT GETNAME",
            "HELLO 3 AUTH default anything SETNAME n",
            "CLIENT GETNAME",
            "CLIENT GETNAME x",
            "CLIENT SETNAME",
            ["CLIENT", "SETNAME", ""],
            "CLIENT GETNAME",
        ]
    ),
    Script(
        [
            "GET k",
            "PING",
            "HELLO",
            "HELLO 3",
            "FOO bar",
            "AUTH wrong",
            "AUTH a b c",
            "AUTH bob secret",
            "AUTH bob",
            "CLIENT SETNAME x",
            "HELLO 3 AUTH bob wrong",
            "HELLO 3 AUTH bob pw",
            "ACL WHOAMI",
            "RESET",
            "ACL WHOAMI",
            "AUTH secret",
            "ACL WHOAMI",
            "AUTH bob pw",
            "ACL WHOAMI",
            "AUTH bob wrong",
            "ACL WHOAMI",
            "HELLO 2",
            "QUIT",
        ],
        users={"default": "secret", "bob": "pw"},
    ),
    Script(["AUTH x", "AUTH default x", "AUTH bob x", "AUTH", "AUTH a b c"]),
    Script(
        [
            "PING",
            ["PING", "a b\r\n\0"],
            "PING a b",
            "ECHO",
            ["ECHO", ""],
            "ECHO hello",
            "ECHO a b",
            "SELECT 0",
            "SELECT x",
            "SELECT -1",
            "SELECT 99",
            "SELECT 99999999999",
            "SELECT",
            "ROLE",
            "READONLY",
            "READWRITE",
            "CLUSTER NODES",
            "CLUSTER SLOTS",
            "ASKING",
            "RESET",
            "RESET now",
            "ACL WHOAMI",
            "TIME now",
            "QUIT",
        ]
    ),
    Script(["QUIT now"]),
    Script(["quit"]),
    Script(
        [
            "CLIENT",
            "CLIENT FOO",
            "CLIENT GETNAME",
            "CLIENT SETNAME worker:1",
            "client getname",
            ["CLIENT", "SETNAME", "a\nb"],
            "CLIENT GETREDIR",
            "CLIENT ID x",
            "CLIENT NO-EVICT ON",
            "CLIENT NO-EVICT off",
            "CLIENT NO-EVICT maybe",
            "CLIENT UNBLOCK 99999",
            "CLIENT UNBLOCK 99999 TIMEOUT",
            "CLIENT UNBLOCK 99999 ERROR",
            "CLIENT UNBLOCK 99999 FOO",
            "CLIENT UNBLOCK x",
            "CLIENT UNBLOCK 1 ERROR x",
            "CLIENT KILL 1.2.3.4:5",
            "CLIENT KILL ID 99999",
            "CLIENT KILL ID 0",
            "CLIENT KILL ID x",
            "CLIENT KILL TYPE foo",
            "CLIENT KILL TYPE pubsub",
            "CLIENT KILL USER nobody",
            "CLIENT KILL SKIPME maybe",
            "CLIENT KILL ID 5 ADDR",
            "CLIENT KILL FOO bar",
            "CLIENT LIST TYPE foo",
            "CLIENT LIST TYPE pubsub",
            "CLIENT LIST ID 99999",
            "CLIENT LIST ID x",
            "CLIENT LIST FOO",
            "CLIENT REPLY",
            "CLIENT REPLY ON",
        ]
    ),
    Script(["HELLO 3", "CLIENT LIST TYPE pubsub", "CLIENT KILL ID 99999", "ROLE", "CLIENT GETREDIR"]),
    Script(
        [
            "CLIENT REPLY SKIP",
            "PING skipped",
            "PING a",
            "CLIENT REPLY OFF",
            "PING off",
            "GET",
            "CLIENT REPLY SKIP",
            "CLIENT REPLY ON",
            "PING b",
            "CLIENT REPLY SKIP",
            "CLIENT REPLY ON",
            "PING c",
            "CLIENT REPLY SKIP",
            "NOSUCH x",
            "PING d",
        ],
        muted=frozenset(
            {"CLIENT REPLY SKIP", "CLIENT REPLY OFF", "PING skipped", "PING off", "GET", "NOSUCH x"}
        ),
    ),
    Script(
        [
            "CONFIG",
            "CONFIG FOO",
            "CONFIG GET",
            "CONFIG GET timeout",
            "CONFIG GET replica-read-only",
            "CONFIG GET MAXMEMORY",
            "CONFIG GET maxmemory-polic?",
            "CONFIG GET appendonly nosuch",
            "CONFIG GET save",
            "CONFIG GET nosuch*",
        ]
    ),
    Script(["HELLO 3", "CONFIG GET timeout", "CONFIG GET nosuch", "CONFIG GET appendonl?"]),
    Script(
        [
            "COMMAND INFO get",
            "COMMAND INFO append nosuch xgroup|create nosuch|create xgroup|nosuch",
            "COMMAND INFO zunionstore mset lcs",
            "COMMAND INFO xread georadius_ro",
            "COMMAND FOO",
            "COMMAND COUNT x",
            "COMMAND LIST FOO",
            "COMMAND LIST FILTERBY MODULE nosuch",
            "COMMAND LIST FILTERBY PATTERN expiret*",
            "COMMAND LIST FILTERBY FOO bar",
            "COMMAND DOCS nosuch",
            "COMMAND GETKEYS",
            "COMMAND GETKEYS GET",
            "COMMAND GETKEYS GET a b",
            "COMMAND GETKEYS NOSUCH a",
            "COMMAND GETKEYS PING x",
            "COMMAND GETKEYS MSET a 1 b 2",
            "COMMAND GETKEYS EVAL x 5 a",
            "COMMAND GETKEYS XGROUP NOSUCH a",
            "COMMAND GETKEYS XGROUP DESTROY s g",
            "COMMAND GETKEYSANDFLAGS",
            "COMMAND GETKEYSANDFLAGS GET",
            "COMMAND GETKEYSANDFLAGS NOSUCH a",
            "COMMAND GETKEYSANDFLAGS PING x",
            "COMMAND GETKEYSANDFLAGS SET a b",
            "COMMAND GETKEYSANDFLAGS SET a b EX 5 GET",
            "COMMAND GETKEYSANDFLAGS BITFIELD a GET u8 1",
            "COMMAND GETKEYSANDFLAGS BITFIELD a SET u8 1 1",
            "COMMAND GETKEYSANDFLAGS SORT a STORE b",
            "COMMAND GETKEYSANDFLAGS SORT_RO a",
            "COMMAND GETKEYSANDFLAGS GEORADIUS a 1 1 1 m STORE b",
            "COMMAND GETKEYSANDFLAGS ZUNIONSTORE a 2 b c",
            "COMMAND GETKEYSANDFLAGS MSET a 1 b 2",
            "COMMAND GETKEYSANDFLAGS COPY a b",
            "COMMAND GETKEYSANDFLAGS EVAL x 2 a b c",
            "COMMAND GETKEYSANDFLAGS XREADGROUP GROUP g c STREAMS a b > >",
            "COMMAND GETKEYSANDFLAGS PFMERGE a b",
            "COMMAND GETKEYSANDFLAGS XGROUP DESTROY s g",
        ]
    ),
    Script(["HELLO 3", "COMMAND GETKEYSANDFLAGS LMOVE a b LEFT LEFT"]),
    Script(["HELLO 3", "COMMAND INFO get nosuch", "COMMAND INFO mset", "COMMAND DOCS nosuch"]),
    # Requests whose keys cannot be told, so that no server is asked.
    Script(
        [
            "ZUNION 0 a",
            "ZUNION -1 a",
            "ZUNION x a",
            "ZUNION 5 a",
            "ZINTERCARD 0 a",
            "ZDIFFSTORE d 0 a",
            "ZDIFFSTORE d x a",
            "ZDIFFSTORE d 4 a",
            "SINTERCARD 0 a",
            "SINTERCARD x a",
            "SINTERCARD 3 a",
            "LMPOP 0 a LEFT",
            "LMPOP x a LEFT",
            "LMPOP 4 a LEFT",
            "ZMPOP -1 a MIN",
            "ZMPOP 7 a MIN",
            "EVAL x -1",
            "EVAL x y",
            "EVAL x 01 a",
            "EVAL x 3 a",
            "XREAD COUNT 1 STREAM",
            "XREAD COUNT 1 STREAMS",
            "XREAD COUNT 1 STREAMS a b c",
            "XREADGROUP GROUP a b STREAMS a b c",
            "XREADGROUP GROUP a b c d e f",
        ]
    ),
    Script(
        [
            "NOSUCH",
            "nosuch a b",
            ["FOO\r\nb", "aa\r\nbb", "\0abc", ""],
            ["FOO\0bar", "x"],
            [LONG, "a"],
            ["NOSUCH", LONG, "b"],
            ["NOSUCH", "y" * 124, "b", "c"],
            ["NOSUCH", "y" * 120, "bcd", "e"],
            ["NOSUCH", "y" * 125, "bcd", "e"],
            ["NOSUCH", "\xff\xfe", "\x80"],
            ["CLIENT", LONG],
            ["cLiEnT", "a\r\nb"],
            ["OBJECT", "a\0b", "k"],
            "GET",
            "gEt a b",
            "SET k",
            "MSET a",
            "MSET a 1 b",
            "MSETNX a 1 b",
            "XGROUP",
            "XGROUP CREATE s",
            "XGROUP FOO s",
            "OBJECT ENCODING",
            "MEMORY USAGE",
            "BITOP NOT d",
            "TIME x",
        ]
    ),
]
"""Requests that the proxy answers with the same bytes as the server."""
