"""The configuration: what is accepted, and the exact words for what is not.

Longer than other files, as two thirds of it are those words: one list.
"""

import textwrap
from pathlib import Path

import pytest

from proxy.config import Config, Loaded, Secret, Sources, load, parse
from proxy.errors import ConfigError, ConfigProblem

MINIMAL = """\
pools:
  p:
    protocol: redis
    listen: 127.0.0.1:6380
    shards:
      - {name: s1, backends: ["127.0.0.1:7001"]}
"""


# A second pool, beside the minimal file's.
SCRATCH = """\
  scratch:
    protocol: redis
    listen: 127.0.0.1:6381
    shards: [{name: t1, backends: ["127.0.0.1:7002"]}]
"""


def no_file(path: str) -> bytes:
    raise FileNotFoundError(2, "No such file or directory")


NOTHING = Sources(environ={}, read_file=no_file)


def read(text: str, sources: Sources = NOTHING) -> Loaded:
    return parse(textwrap.dedent(text), "f.yaml", sources)


def problems(text: str, sources: Sources = NOTHING) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text, sources)
    return str(caught.value).splitlines()


def with_pool(*lines: str) -> str:
    """The minimal file with more keys in its pool, the first of them on line 7."""
    return MINIMAL + "".join(f"    {line}\n" for line in lines)


def with_shards(*lines: str) -> str:
    """The minimal file with other shards, the first of them on line 6."""
    return MINIMAL[: MINIMAL.index("      - ")] + "".join(f"      {line}\n" for line in lines)


def test_minimal_file_gets_the_documented_defaults() -> None:
    config = read(MINIMAL).config
    pool = config.pools["p"]
    assert (config.admin.listen, config.shutdown_grace_seconds, config.zone) == ("127.0.0.1:9180", 10.0, "")
    assert (config.log.level, config.log.format) == ("info", "text")
    assert config.workers >= 1
    assert (pool.hash, pool.distribution, pool.hash_tag) == ("fnv1a_64", "ketama", "")
    assert (pool.replication.mode, pool.replication.ack, pool.reads) == ("fanout", "all", "primary")
    assert (pool.bootstrap, pool.views, pool.cross_shard, pool.on_shard_loss) == (
        "sync", "available", "split", "error",
    )  # fmt: skip
    assert (pool.timeouts.connect_seconds, pool.timeouts.request_seconds) == (0.25, 1.0)
    assert pool.timeouts.client_idle_seconds == 0
    assert (pool.health.interval_seconds, pool.health.timeout_seconds) == (1.0, 0.5)
    assert (pool.health.fall, pool.health.rise) == (3, 2)
    assert pool.limits.model_dump() == {
        "clients": 10000, "request_bytes": 64 << 20, "client_inflight": 4096,
        "client_output_bytes": 64 << 20, "backend_inflight": 65536,
    }  # fmt: skip
    assert pool.shards[0].weight == 1
    assert pool.auth.users == ()
    assert pool.backend_auth is None
    assert pool.admin_commands == ()


def test_the_result_cannot_be_changed() -> None:
    config = read(MINIMAL).config
    with pytest.raises(ValueError, match="frozen"):
        config.workers = 3
    with pytest.raises(TypeError):
        config.pools["q"] = config.pools["p"]  # type: ignore[index]


def test_values_carry_their_units() -> None:
    pool = read(
        with_pool(
            "timeouts: {connect: 1.5s, request: 2m, client_idle: 1h}",
            "limits: {request_bytes: 4KiB, client_output_bytes: 1000000}",
            "panic_threshold: 25%",
        )
    ).config.pools["p"]
    assert (pool.timeouts.connect_seconds, pool.timeouts.request_seconds) == (1.5, 120.0)
    assert pool.timeouts.client_idle_seconds == 3600
    assert (pool.limits.request_bytes, pool.limits.client_output_bytes) == (4096, 1000000)
    assert pool.panic_threshold == 0.25


def test_all_kinds_of_listeners_and_backends() -> None:
    text = """
        pools:
          p:
            protocol: memcached
            listen: ["127.0.0.1:0", "[::1]:11311", "unix:/run/p.sock", {address: "localhost:1"}]
            shards:
              - {name: a, weight: 3, backends: ["cache-1.example.org:11211"]}
              - {name: b, backends: [{address: "unix:/run/m.sock", zone: x}, "[2001:db8:0::1]:7"]}
    """
    pool = read(text).config.pools["p"]
    assert pool.listen == ("127.0.0.1:0", "[::1]:11311", "unix:/run/p.sock", "localhost:1")
    assert [[b.address for b in s.backends] for s in pool.shards] == [
        ["cache-1.example.org:11211"],
        ["unix:/run/m.sock", "[2001:db8:0::1]:7"],
    ]
    assert pool.shards[1].backends[0].zone == "x"


def test_a_shard_without_a_name_is_called_by_the_naming_rule() -> None:
    pool = read(
        with_shards('- {backends: ["10.0.0.1:11211"]}', '- {backends: ["10.0.0.2:7000"]}')
    ).config.pools["p"]
    assert [shard.name for shard in pool.shards] == ["10.0.0.1", "10.0.0.2:7000"]
    assert not pool.shards[0].is_named
    assert read(MINIMAL).config.pools["p"].shards[0].is_named


# The position of each line matters: the message names it.
BAD_FILES = {
    "empty": ("", ["f.yaml:1: the file is empty; expected at least pools"]),
    "no pools": ("workers: 2\n", ["f.yaml:1: pools: required key is missing"]),
    "pools empty": ("pools: {}\n", ["f.yaml:1: pools: expected at least 1 entry"]),
    "not a section": (
        "pools: [1]\n",
        ["f.yaml:1: pools: expected a section of keys and values; got a list"],
    ),
    "top level list": ("- 1\n", ["f.yaml:1: expected a section of keys and values; got a list"]),
    "unknown key": (MINIMAL + "workerz: 1\n", ["f.yaml:7: workerz: unknown key; did you mean 'workers'?"]),
    "unknown key, no guess": (
        MINIMAL + "xyzzy: 1\n",
        [
            "f.yaml:7: xyzzy: unknown key; expected one of admin, workers, log, zone, shutdown_grace, pools",
        ],
    ),
    "pool key": (with_pool("hsah: md5"), ["f.yaml:7: pools.p.hsah: unknown key; did you mean 'hash'?"]),
    "key of a subsection": (
        with_pool("connect: 1s"),
        ["f.yaml:7: pools.p.connect: unknown key; did you mean 'timeouts.connect'?"],
    ),
    "nested key": (
        with_pool("timeouts:", "  conect: 1s"),
        ["f.yaml:8: pools.p.timeouts.conect: unknown key; did you mean 'connect'?"],
    ),
    "protocol": (
        MINIMAL.replace("redis", "reddis"),
        ["f.yaml:3: pools.p.protocol: expected one of redis, memcached; got 'reddis'; did you mean 'redis'?"],
    ),
    "hash": (
        with_pool("hash: fnv1a64"),
        [
            "f.yaml:7: pools.p.hash: expected one of one_at_a_time, md5, crc16, crc32, crc32a, fnv1_64, "
            "fnv1a_64, fnv1_32, fnv1a_32, hsieh, murmur, jenkins; got 'fnv1a64'; did you mean 'fnv1a_64'?"
        ],
    ),
    "distribution": (
        with_pool("distribution: modulo"),
        [
            "f.yaml:7: pools.p.distribution: expected one of ketama, modula, random, libmemcached_ketama, "
            "libmemcached_ketama_weighted, rendezvous, slots, jump; got 'modulo'; did you mean 'modula'?"
        ],
    ),
    "hash tag": (
        with_pool("hash_tag: '{'"),
        ["f.yaml:7: pools.p.hash_tag: expected two characters such as \"{}\", or \"\" for none; got '{'"],
    ),
    "duration without unit": (
        with_pool("timeouts: {connect: 250}"),
        [
            "f.yaml:7: pools.p.timeouts.connect: expected a duration such as 250ms, 1s or 2m "
            "(a number needs a unit); got 250"
        ],
    ),
    "duration unit": (
        with_pool("timeouts: {connect: 1 day}"),
        [
            "f.yaml:7: pools.p.timeouts.connect: expected a duration such as 250ms, 1s or 2m "
            "(units: us, ms, s, m, h); got '1 day'"
        ],
    ),
    "duration bounds": (
        with_pool("timeouts: {connect: 0, client_idle: 9000h}"),
        [
            "f.yaml:7: pools.p.timeouts.client_idle: expected a duration from 1ms to 720h, or 0 for never; "
            "got '9000h'",
            "f.yaml:7: pools.p.timeouts.connect: expected a duration from 1ms to 1m; got 0",
        ],
    ),
    "size": (
        with_pool("limits: {request_bytes: 64MiBs}"),
        [
            "f.yaml:7: pools.p.limits.request_bytes: expected a size such as 64MiB, 4KiB or a number of "
            "bytes (units: B, KiB, MiB, GiB, KB, MB, GB); got '64MiBs'"
        ],
    ),
    "size bounds": (
        with_pool("limits: {request_bytes: 1}"),
        ["f.yaml:7: pools.p.limits.request_bytes: expected a size from 1KiB to 512MiB; got 1"],
    ),
    "share": (
        with_pool("panic_threshold: 120%"),
        ["f.yaml:7: pools.p.panic_threshold: expected a share such as 0.5 or 50%; got '120%'"],
    ),
    "boolean for a number": (
        with_pool("limits: {clients: true}"),
        ["f.yaml:7: pools.p.limits.clients: expected a whole number from 1 to 1000000; got true"],
    ),
    "section left empty": (
        with_pool("limits:"),
        ["f.yaml:7: pools.p.limits: expected a section of keys and values; got nothing"],
    ),
    "workers": (
        MINIMAL + "workers: many\n",
        ["f.yaml:7: workers: expected auto or a whole number from 1 to 255; got 'many'"],
    ),
    "log level": (
        MINIMAL + "log: {level: warn}\n",
        [
            "f.yaml:7: log.level: expected one of debug, info, warning, error; got 'warn'; "
            "did you mean 'warning'?"
        ],
    ),
    "admin address": (
        MINIMAL + "admin: {listen: 9180}\n",
        ["f.yaml:7: admin.listen: expected an address: host:port, [ipv6]:port or unix:/path; got 9180"],
    ),
    "listen port": (
        MINIMAL.replace("6380", "66380"),
        ["f.yaml:4: pools.p.listen[0]: expected a port between 0 and 65535; got '127.0.0.1:66380'"],
    ),
    "listen host": (
        MINIMAL.replace("127.0.0.1:6380", "300.0.0.1:1"),
        [
            "f.yaml:4: pools.p.listen[0]: expected host:port, [ipv6]:port or unix:/path; "
            "300.0.0.1 is no IPv4 address; got '300.0.0.1:1'"
        ],
    ),
    "IPv6 without brackets": (
        with_shards('- {name: s, backends: ["::1:7001"]}'),
        [
            "f.yaml:6: pools.p.shards[0].backends[0].address: expected host:port, [ipv6]:port or unix:/path "
            "(IPv6 goes in brackets); got '::1:7001'"
        ],
    ),
    "backend port 0": (
        with_shards('- {name: s, backends: ["h:0"]}'),
        [
            "f.yaml:6: pools.p.shards[0].backends[0].address: expected a port between 1 and 65535; got 'h:0'"
        ],
    ),
    "relative unix path": (
        with_shards('- {name: s, backends: ["unix:m.sock"]}'),
        [
            "f.yaml:6: pools.p.shards[0].backends[0].address: expected unix: followed by an absolute path; "
            "got 'unix:m.sock'"
        ],
    ),
    "no backends": (
        with_shards("- {name: s, backends: []}"),
        ["f.yaml:6: pools.p.shards[0].backends: expected at least 1 entry"],
    ),
    "17 backends": (
        with_shards("- {name: s, backends: [" + ", ".join(f'"h:{n}"' for n in range(1, 18)) + "]}"),
        ["f.yaml:6: pools.p.shards[0].backends: expected at most 16 entries"],
    ),
    "weight": (
        with_shards('- {name: s, weight: 0, backends: ["h:1"]}'),
        ["f.yaml:6: pools.p.shards[0].weight: expected a whole number from 1 to 1000; got 0"],
    ),
    "shard name": (
        with_shards('- {name: "s 1", backends: ["h:1"]}'),
        [
            "f.yaml:6: pools.p.shards[0].name: expected a name of 1 to 64 letters, digits or _ . : / @ -; "
            "got 's 1'"
        ],
    ),
    "pool name": (
        MINIMAL.replace("  p:", '  "p q":'),
        ["f.yaml:2: pools.p q: expected a name of 1 to 64 letters, digits or _ . : / @ -; got 'p q'"],
    ),
    "default name that cannot be one": (
        with_shards('- {backends: ["unix:/run/a b.sock"]}'),
        ["f.yaml:2: pools.p: shards[0] needs a name: its default '/run/a b.sock:' cannot be one"],
    ),
    "TLS listener": (
        MINIMAL.replace("127.0.0.1:6380", '[{address: "h:1", tls: {}}]'),
        [
            "f.yaml:4: pools.p.listen[0]: TLS on listeners is not available in this version; "
            "expected a plain address"
        ],
    ),
    "later values": (
        with_pool(
            "replication: {mode: native}",
            "hedge_after: 20ms", "scripts: verbatim",
        ),
        [
            "f.yaml:7: pools.p.replication.mode: 'native' is not available in this version; "
            "expected fanout or none",
            "f.yaml:8: pools.p.hedge_after: hedging is not available in this version; expected 0",
            "f.yaml:9: pools.p.scripts: scripts is not available in this version",
        ],
    ),
    "remap of a shared backend": (
        MINIMAL
        + "    on_shard_loss: remap\n"
        + "  q:\n    protocol: redis\n    listen: h:1\n    shards:\n"
        + '      - {name: x, backends: ["127.0.0.1:7001"]}\n',
        [
            "f.yaml:6: pools.p.shards[0].backends[0]: with on_shard_loss remap 127.0.0.1:7001 is emptied "
            "when it comes back, and it also belongs to pool q",
        ],
    ),
    "key twice": (
        MINIMAL + "workers: 1\nworkers: 2\n",
        ["f.yaml:8: workers: expected each key once; this one stands here a second time"],
    ),
    "not YAML": (
        "pools:\n  p: ]\n",
        [
            "f.yaml:2: expected YAML: expected the node content, but found ']' while parsing a block node"
        ],
    ),
    "nested too deep": (
        "pools: " + "[" * 40 + "]" * 40 + "\n",
        ["f.yaml: expected at most 32 levels and 1000000 values"],
    ),
    "shard named twice": (
        with_shards('- {name: s, backends: ["h:1"]}', '- {name: s, backends: ["h:2"]}'),
        ["f.yaml:7: pools.p.shards[1].name: shard s exists already: shards[0]"],
    ),
    "backend listed twice": (
        with_shards('- {name: s, backends: ["h:1"]}', '- {name: t, backends: ["h:1"]}'),
        ["f.yaml:7: pools.p.shards[1].backends[0]: backend h:1 is listed already, in shard s"],
    ),
    "listens twice": (
        MINIMAL + "admin: {listen: 127.0.0.1:6380}\n",
        ["f.yaml:4: pools.p.listen[0]: 127.0.0.1:6380 is listened on twice, by admin and pool p"],
    ),
    "listens where a backend is": (
        MINIMAL.replace("127.0.0.1:6380", "0.0.0.0:7001"),
        [
            "f.yaml:4: pools.p.listen[0]: 0.0.0.0:7001 is also a backend of pool p, shard s1: "
            "the proxy would talk to itself"
        ],
    ),
    "probe longer than its interval": (
        with_pool("health: {interval: 100ms, timeout: 200ms}"),
        ["f.yaml:7: pools.p.health.timeout: expected at most the interval, 100ms; got 200ms"],
    ),
    "output smaller than a value": (
        with_pool("limits: {request_bytes: 2MiB, client_output_bytes: 1MiB}"),
        [
            "f.yaml:7: pools.p.limits.client_output_bytes: expected at least request_bytes: "
            "a value that may be written must also fit into a reply"
        ],
    ),
    "replicas that nobody fills": (
        with_shards('- {name: s, backends: ["h:1", "h:2"]}') + "    replication: {mode: none}\n",
        [
            "f.yaml:6: pools.p.shards[0].backends: expected one backend with replication mode none: "
            "nobody would fill the others"
        ],
    ),
    "weights that jump cannot honour": (
        with_shards('- {name: s, backends: ["h:1"]}', '- {name: t, weight: 2, backends: ["h:2"]}')
        + "    distribution: jump\n",
        ["f.yaml:7: pools.p.shards[1].weight: expected no weights: distribution jump knows none"],
    ),
    "a route without a prefix": (
        with_pool("routes:", "  - {prefix: '', shard: s1}"),
        ["f.yaml:8: pools.p.routes[0].prefix: expected what keys begin with, 1 to 250 characters; got ''"],
    ),
    "routes that contradict each other": (
        with_pool("routes:", "  - {prefix: 'a:', shard: s11}", "  - {prefix: 'a:', shard: s1}"),
        [
            "f.yaml:8: pools.p.routes[0].shard: there is no shard s11; did you mean s1?",
            "f.yaml:9: pools.p.routes[1].prefix: prefix exists already: routes[0]",
        ],
    ),
    "a route to two places and one to none": (
        with_pool("routes:", "  - {prefix: 'a:', shard: s1, pool: q}", "  - {prefix: 'b:'}"),
        [
            "f.yaml:8: pools.p.routes[0]: expected exactly one of shard and pool",
            "f.yaml:9: pools.p.routes[1]: expected exactly one of shard and pool",
        ],
    ),
    "a route to a pool that there is not": (
        with_pool("routes: [{prefix: 'a:', pool: scratsh}, {prefix: 'b:', pool: x}]") + SCRATCH,
        [
            "f.yaml:7: pools.p.routes[0].pool: there is no pool scratsh; did you mean scratch?",
            "f.yaml:7: pools.p.routes[1].pool: there is no pool x; expected one of scratch",
        ],
    ),
    "a route to its own pool": (
        with_pool("routes: [{prefix: 'a:', pool: p}]"),
        [
            "f.yaml:7: pools.p.routes[0].pool: "
            "expected another pool: keys of this one need no route to it"
        ],
    ),
    "a route to a pool of another protocol": (
        with_pool("routes: [{prefix: 'a:', pool: scratch}]") + SCRATCH.replace("redis", "memcached"),
        [
            "f.yaml:7: pools.p.routes[0].pool: "
            "pool scratch speaks memcached; expected a pool that speaks redis"
        ],
    ),
    "a route to a pool of fewer databases": (
        with_pool("databases: 8", "routes: [{prefix: 'a:', pool: scratch}]") + SCRATCH + "    databases: 7\n",
        [
            "f.yaml:8: pools.p.routes[0].pool: pool scratch has 7 databases; expected at least 8, "
            "as clients of this one may select so many"
        ],
    ),
    "routes to pools and shards of one prefix": (
        with_pool("routes: [{prefix: 'a:', shard: s1}, {prefix: 'a:', pool: scratch}]") + SCRATCH,
        ["f.yaml:7: pools.p.routes[1].prefix: prefix exists already: routes[0]"],
    ),
    "routes in a circle": (
        with_pool("routes: [{prefix: 'a:', pool: scratch}]")
        + SCRATCH
        + "    routes: [{prefix: 'b:', pool: p}, {prefix: 'a:b', pool: p}]\n",
        [
            "f.yaml:7: pools.p.routes[0].pool: pools.scratch.routes[1] leads such keys on to pool p; "
            "expected the pool that has them",
            "f.yaml:12: pools.scratch.routes[1].pool: pools.p.routes[0] leads such keys on to pool scratch; "
            "expected the pool that has them",
        ],
    ),
    "hash tag of slots": (
        with_pool("distribution: slots", "hash_tag: '[]'"),
        ['f.yaml:8: pools.p.hash_tag: expected "{}": distribution slots has the hash tag of Redis Cluster'],
    ),
    "memcached login": (
        MINIMAL.replace("redis", "memcached") + "    backend_auth: {password_env: PW}\n",
        [
            "f.yaml:7: pools.p.backend_auth.user: "
            "expected a name without blanks: memcached logs nobody in without one"
        ],
    ),
    "memcached monitor": (
        MINIMAL.replace("redis", "memcached") + "    admin_commands: [monitor]\n",
        ["f.yaml:7: pools.p.admin_commands: is for redis pools; Memcached has no such command"],
    ),
    "memcached by replicaof": (
        MINIMAL.replace("redis", "memcached") + "    resync: {method: replicaof}\n",
        ["f.yaml:7: pools.p.resync.method: is for redis pools; Memcached backends are always copied"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_problems_are_named_exactly(name: str) -> None:
    text, expected = BAD_FILES[name]
    assert problems(text, Sources(environ={"PW": "x"}, read_file=no_file)) == expected


def test_a_problem_carries_its_parts() -> None:
    with pytest.raises(ConfigError) as caught:
        read(with_pool("hsah: md5", "hash: md4"))
    error = caught.value
    assert (error.file, error.line, error.key, error.expected, error.nearest) == (
        "f.yaml", 7, "pools.p.hsah", "unknown key", "hash",
    )  # fmt: skip
    assert [(p.line, p.key, p.nearest) for p in error.problems] == [
        (7, "pools.p.hsah", "hash"),
        (8, "pools.p.hash", "md5"),
    ]
    assert error.exit_code == 2


def test_problems_come_sorted_by_line_whatever_order_they_were_found_in() -> None:
    late = ConfigProblem("f", 9, "a", "x")
    early = ConfigProblem("f", 2, "b", "y")
    assert ConfigError((late, early)).problems == (early, late)


def test_a_pool_may_bear_the_name_of_a_key() -> None:
    # The search for the nearest key must not take the name "timeouts" for the section.
    text = MINIMAL.replace("  p:", "  timeouts:") + "    hsah: md5\n"
    assert problems(text) == ["f.yaml:7: pools.timeouts.hsah: unknown key; did you mean 'hash'?"]


def test_anchors_and_merges_keep_a_line() -> None:
    text = """\
        x: &d {connect: 1 day}
        pools:
          p:
            timeouts: {<<: *d}
    """
    assert "f.yaml:4: pools.p.timeouts.connect: expected a duration" in "\n".join(problems(text))


# Secrets -------------------------------------------------------------------------------------------


def test_secrets_come_from_files_and_environment_and_never_show() -> None:
    sources = Sources(environ={"BACKEND_PW": "hunter2"}, read_file={"/run/pw": b"s3cret\n"}.__getitem__)
    loaded = read(
        with_pool(
            "auth: {users: [{name: default, password_file: /run/pw}]}",
            "backend_auth: {user: app, password_env: BACKEND_PW}",
        ),
        sources,
    )
    pool = loaded.config.pools["p"]
    assert pool.auth.users[0].password.reveal() == b"s3cret"
    assert pool.backend_auth is not None
    assert pool.backend_auth.password == Secret(b"hunter2")
    for shown in (
        repr(loaded),
        str(loaded.config),
        str(pool.auth.users[0].password),
        pool.model_dump_json(),
    ):
        assert "s3cret" not in shown
        assert "hunter2" not in shown


SECRET_PROBLEMS = {
    "no file": ("{password_file: /nope}", "cannot read /nope: No such file or directory"),
    "no variable": (
        "{password_env: NOPE}",
        "the environment variable NOPE is not set; expected a password in it",
    ),
    "both": (
        "{password_file: /a, password_env: B}",
        "expected exactly one of password_file and password_env",
    ),
    "none": ("{user: x}", "expected exactly one of password_file and password_env"),
    "in the file": (
        "{password: hunter2}",
        "expected password_file or password_env: passwords do not stand in this file",
    ),
    "as a scalar": ("hunter2", "expected a section of keys and values"),
}


@pytest.mark.parametrize("name", SECRET_PROBLEMS)
def test_problems_with_secrets_do_not_quote_them(name: str) -> None:
    value, expected = SECRET_PROBLEMS[name]
    found = problems(with_pool(f"backend_auth: {value}"))
    assert found == [f"f.yaml:7: pools.p.backend_auth: {expected}"]
    assert "hunter2" not in "".join(found)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "/f is empty; expected a password"),
        (b"x" * 4097, "expected a password of at most 4096 bytes in /f"),
    ],
)
def test_password_files_are_bounded_and_not_empty(content: bytes, text: str) -> None:
    with pytest.raises(ValueError, match="password") as caught:
        Sources(environ={}, read_file=lambda path: content).from_file("/f")
    assert str(caught.value) == text


# Environment, files, warnings ------------------------------------------------------------------------


def test_the_zone_may_come_from_the_environment() -> None:
    sources = Sources(environ={"SHARDPROXY_ZONE": "b"}, read_file=no_file)
    assert read("zone: a\n" + MINIMAL).config.zone == "a"
    assert read("zone: a\n" + MINIMAL, sources).config.zone == "b"


WARNINGS = {
    "crc32 ketama": (
        with_pool("hash: crc32"),
        "f.yaml:7: pools.p.hash: crc32 gives 15 bits, so ketama puts nearly all keys on one shard; "
        "meant crc32a?",
    ),
    "hash without effect": (
        with_pool("hash: md5", "distribution: jump"),
        "f.yaml:7: pools.p.hash: has no effect: distribution jump brings its own hash",
    ),
    "nearest without a zone": (
        with_pool("reads: nearest"),
        "f.yaml:7: pools.p.reads: nearest needs the proxy's own zone: set zone or SHARDPROXY_ZONE",
    ),
    "nearest in a foreign zone": (
        with_pool("reads: nearest") + "zone: z\n",
        "f.yaml:7: pools.p.reads: nearest: no backend is in the proxy's zone z",
    ),
    "remap with one shard": (
        with_pool("on_shard_loss: remap"),
        "f.yaml:7: pools.p.on_shard_loss: remap has no effect: there is no other shard to go to",
    ),
    "remap of what is kept twice": (
        with_shards('- {name: a, backends: ["h:1", "h:2"]}', '- {name: b, backends: ["h:3"]}')
        + "    on_shard_loss: remap\n",
        "f.yaml:8: pools.p.on_shard_loss: with remap a shard that lost all its backends is emptied when it "
        "comes back: what it held is gone, acknowledged writes too",
    ),
    "spread with few acks": (
        with_pool("reads: spread", "replication: {ack: primary}"),
        "f.yaml:8: pools.p.replication: with ack primary a client may not read its own last write",
    ),
    "nameless shard of two": (
        with_shards('- {backends: ["h:1", "h:2"]}'),
        "f.yaml:6: pools.p.shards[0]: without a name the shard is called h:1 after its first backend; "
        "another order of the backends would move its keys",
    ),
    "backend of two pools": (
        MINIMAL
        + "  q:\n    protocol: redis\n    listen: h:1\n    shards:\n"
        + '      - {name: x, backends: ["127.0.0.1:7001"]}\n',
        "f.yaml:11: pools.q.shards[0].backends[0]: backend 127.0.0.1:7001 also belongs to pool p; "
        "their keys share it",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_doubts_are_warnings(name: str) -> None:
    text, expected = WARNINGS[name]
    assert [str(warning) for warning in read(text).warnings] == [expected]


def test_a_sound_file_has_no_warnings() -> None:
    assert read(MINIMAL).warnings == ()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "x.yaml"
    with pytest.raises(ConfigError, match=r"x\.yaml: cannot be read: No such file"):
        load(str(missing))
    missing.write_bytes(b"pools:\n  \xff\n")
    with pytest.raises(ConfigError, match=r"x.yaml:2: expected text in UTF-8"):
        load(str(missing))
    missing.write_text(MINIMAL)
    assert isinstance(load(str(missing), NOTHING).config, Config)


def test_the_digest_names_the_text() -> None:
    assert read(MINIMAL).digest == read(MINIMAL).digest != read(MINIMAL + "\n").digest
