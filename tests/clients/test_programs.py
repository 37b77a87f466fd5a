"""Clients and applications of many languages, as programs of their own, against the proxy.

Each program does one part per run: see README.md. Without ``SHARDPROXY_TEST_CLIENTS=all``, which
`make clients` sets, only those run that need nothing but the project's own packages.
"""

import itertools
import os
from collections.abc import Iterator

import pytest
from support.cluster import Cluster
from support.programs import Program, go, java, node, php, python, ruby
from support.servers import MemcachedServer, RedisServer, Server

SIMPLE = ("connect", "data", "pipeline", "streams", "scripts", "databases")
EVENTS = ("failover", "restart")
APPLICATIONS = ("django", "celery", "rq", "huey", "dramatiq")
BROKEN = {"failover": "failover", "restart": "restart", "swaps": "failover"}
BROKEN |= {f"{name}_failover": "failover" for name in APPLICATIONS}
"""Parts in which the test breaks something meanwhile, and what."""
STATEFUL = ("transaction", "watch", "transaction_over_shards", "pubsub", "blocking", "blocking_over_shards")
WHOLE = ("scan", "keyspace", "script_cache", "script_without_keys")
REDIS = (*SIMPLE, *STATEFUL, *WHOLE, *EVENTS)

ALL = os.environ.get("SHARDPROXY_TEST_CLIENTS") == "all"
PLAIN = os.environ.get("SHARDPROXY_TEST_CLIENTS_PLAIN") == "1"
"""A plain server in the proxy's place, to see that a program is right."""

PYTHON = (*REDIS, "lock")
REDIS_PROGRAMS = [
    python("redis-py", "redis_like.py", "redis", parts=PYTHON, own=True),
    python("redis-py-resp2", "redis_like.py", "redis", "resp2", parts=PYTHON),
    python("redis-py-resp2-python", "redis_like.py", "redis", "resp2", "python", parts=PYTHON),
    python("redis-py-resp3-python", "redis_like.py", "redis", "resp3", "python", parts=PYTHON),
    python("valkey", "redis_like.py", "valkey", parts=PYTHON),
    python("valkey-resp3", "redis_like.py", "valkey", "resp3", parts=PYTHON),
]
ASYNCIO = ("connect", "data", "pipeline", "transaction", "watch", "transaction_over_shards", "pubsub")
ASYNCIO += ("blocking", "scan", "scripts", "script_cache", "streams", "lock", *EVENTS)
CACHES_OF_MEMCACHED = ("many", "clear")
CACHES = ("django", "django_session", "django_failover", "flask", "dogpile")
CACHES_OF_REDIS = ("dogpile_many", "django_many", "django_clear", "flask_many", "dogpile_lock")
NODE = tuple(part for part in REDIS if part != "blocking_over_shards")
JAVA = (*NODE, "pool")
REDISSON = (*(part for part in NODE if part not in ("watch", "script_without_keys")), "lock", "objects")
PHP = (*NODE, "session")
REDIS_PROGRAMS += [
    python("redis-py-asyncio", "redis_like_asyncio.py", "redis", parts=ASYNCIO, own=True),
    python("redis-py-asyncio-resp2", "redis_like_asyncio.py", "redis", "resp2", parts=ASYNCIO),
    python("valkey-asyncio", "redis_like_asyncio.py", "valkey", parts=ASYNCIO),
    node("ioredis", "ioredis.js", parts=NODE),
    node("node-redis", "node_redis.js", parts=NODE),
    node("node-redis-resp2", "node_redis.js", "resp2", parts=NODE),
    node("bullmq", "bullmq.js", parts=["queue", "failover"]),
    python("caches", "caches.py", "redis", parts=[*CACHES, *CACHES_OF_REDIS]),
    python("queues", "queues.py", parts=["huey", "huey_failover", "dramatiq", "dramatiq_failover"]),
    go("go-redis", parts=NODE),
    go("rueidis", parts=NODE),
    go("rueidis-resp2", parts=NODE),
    java("jedis", "jedis", parts=JAVA),
    java("jedis-resp2", "jedis", "resp2", parts=JAVA),
    java("jedis-resp3", "jedis", "resp3", parts=JAVA),
    java("lettuce", "lettuce", parts=JAVA),
    java("lettuce-resp2", "lettuce", "resp2", parts=JAVA),
    java("redisson", "redisson", parts=REDISSON),
    php("phpredis", "phpredis.php", parts=PHP),
    php("predis", "predis.php", parts=PHP),
    ruby("redis-rb", "redis.rb", parts=[*REDIS, "pool"]),
    ruby("sidekiq", "sidekiq.rb", parts=["queue", "failover"]),
]
ONE_SHARD_PROGRAMS = [
    python("queues-of-one-shard", "queues.py", parts=["celery", "celery_failover", "rq", "rq_failover"])
]
"""Their keys cannot be given a hash tag."""
CLUSTER_PROGRAMS = [
    python("redis-py-cluster", "redis_cluster.py", "redis", parts=["cluster", "failover"], own=True),
    python("redis-py-cluster-resp2", "redis_cluster.py", "redis", "resp2", parts=["cluster"]),
    python("valkey-cluster", "redis_cluster.py", "valkey", parts=["cluster", "failover"]),
    node("ioredis", "ioredis.js", parts=["cluster"]),
    node("node-redis", "node_redis.js", parts=["cluster"]),
    go("go-redis", parts=["cluster"]),
    go("rueidis", parts=["cluster", "failover", "restart"]),
    go("rueidis-resp2", parts=["cluster"]),
    java("jedis", "jedis", parts=["cluster"]),
    java("lettuce", "lettuce", parts=["cluster"]),
]
"""Clients of Redis Cluster, to whom the pool shows itself as one (``cluster: emulate``)."""

MEMCACHED = ("data", "many", "cas", *EVENTS)
NO_RESTART = tuple(part for part in MEMCACHED if part != "restart")
SWAPS = (*MEMCACHED, "swaps")
MEMCACHED_PROGRAMS = [
    python("pymemcache", "memcached.py", "pymemcache", parts=SWAPS, own=True),
    python("python-memcached", "memcached.py", "python_memcached", parts=SWAPS),
    python("pylibmc", "memcached.py", "pylibmc", parts=SWAPS),
    python("caches-of-pymemcache", "caches.py", "pymemcache", parts=[*CACHES, *CACHES_OF_MEMCACHED]),
    python("caches-of-pylibmc", "caches.py", "pylibmc", parts=[*CACHES, *CACHES_OF_MEMCACHED]),
    # It never calls back for a request that was under way when its connection ended, also with a memcached
    # alone.
    node("node-memcached", "memcached.js", parts=NO_RESTART),
    go("gomemcache", parts=MEMCACHED),
    java("spymemcached", "spymemcached", parts=MEMCACHED),
    java("xmemcached", "xmemcached", parts=MEMCACHED),
    php("php-memcached", "memcached.php", parts=[*MEMCACHED, "session"]),
]

BINARY = [
    python("python-binary-memcached", "memcached.py", "bmemcached", parts=SWAPS),
    # By this protocol the library in it never connects anew, also to a memcached alone.
    python("pylibmc-binary", "memcached.py", "pylibmc", "binary", parts=[*NO_RESTART, "swaps"]),
    python("caches-of-pylibmc-binary", "caches.py", "pylibmc", "binary", parts=["django", "django_session"]),
    node("memjs", "memjs.js", parts=[part for part in MEMCACHED if part != "cas"]),
    java("spymemcached-binary", "spymemcached", "binary", parts=MEMCACHED),
    java("xmemcached-binary", "xmemcached", "binary", parts=MEMCACHED),
    php("php-memcached-binary", "memcached.php", "binary", parts=[*MEMCACHED, "session"]),
    ruby("dalli", "dalli.rb", parts=MEMCACHED),
]
# It drops CAS tokens of more than 32 bits, which those of replicated shards are (MEMCACHED.md).
META = [
    python(
        "meta-memcache",
        "meta.py",
        parts=[*(part for part in MEMCACHED if part != "cas"), "leases", "stale"],
    )
]
MEMCACHED_PROGRAMS += [*BINARY, *META]
SINGLE_PROGRAMS = [python("meta-memcache", "meta.py", parts=["data", "cas", "leases", "stale"])]
"""On shards of one backend each."""


def cases(programs: list[Program]) -> list[object]:
    """A parameter for each part of each program that is asked for."""
    return [
        pytest.param(program, part, id=f"{program.name}-{part}", marks=marks(part))
        for program in programs
        for part in program.parts
        if ALL or program.quick
    ]


def marks(part: str) -> list[pytest.MarkDecorator]:
    found = [pytest.mark.fault] if part in BROKEN else []
    if part in BROKEN and PLAIN:
        found.append(pytest.mark.skip(reason="a plain server does not survive this"))
    return found


class Ground:
    """What the programs run against: a cluster, or for comparison one plain server."""

    def __init__(self, protocol: str, shards: int, replicas: int = 2, **more: str) -> None:
        self.plain: Server | None = None
        self.cluster: Cluster | None = None
        self._numbers = itertools.count()
        if PLAIN:
            self.plain = (RedisServer if protocol == "redis" else MemcachedServer)().start()
        else:
            # What is killed comes back, as it would for a user, so that all can share one cluster.
            options = {"hash_tag": "{}", "resync": {"auto": True}, **more}
            self.cluster = Cluster(protocol, shards=shards, replicas=replicas, workers=2, **options)

    def close(self) -> None:
        if self.plain:
            self.plain.close()
        if self.cluster:
            self.cluster.__exit__(None, None, None)

    def run(self, program: Program, part: str) -> None:
        """Runs a part to its end, and what happens outside meanwhile."""
        if missing := program.missing():
            pytest.skip(missing)
        port = self.plain.port if self.plain else self.cluster.proxy.ports["p"]
        prefix = f"{program.name}.{part}.{next(self._numbers)}"
        with program.start(port, part, prefix) as run:
            if part in BROKEN:
                assert self.cluster is not None
                run.wait_line("going")
                getattr(self, f"_{BROKEN[part]}")(self.cluster, run)
                run.tell("end")
            run.wait_end()

    @staticmethod
    def _failover(cluster, run) -> None:
        """The leader of one shard dies, and comes back; no request may fail."""
        shard = len(cluster.servers) - 1
        # Whoever leads by now: the one that lost it here before has come back as a follower.
        leader = [cluster.address(n, shard) for n in range(2)].index(cluster.shard_status(shard)["lead"])
        cluster.servers[shard][leader].kill9()
        try:
            run.tell("killed")
            run.wait_line("after killed")
            cluster.wait_state(leader, "down", shard=shard)
            run.tell("down")
            run.wait_line("after down")
        finally:  # also for those that come after one that failed
            cluster.servers[shard][leader].restart()
        cluster.wait_state(leader, "in_sync", shard=shard, within=20)
        run.tell("back")
        run.wait_line("after back")

    @staticmethod
    def _restart(cluster, run) -> None:
        """The proxy itself is replaced: every connection is lost, and clients make new ones."""
        cluster.proxy.restart()
        run.tell("restarted")
        run.wait_line("after restarted")


def ground(protocol: str, shards: int, replicas: int = 2, **more: str) -> Iterator[Ground]:
    made = Ground(protocol, shards, replicas, **more)
    yield made
    made.close()


@pytest.fixture(scope="module")
def redis_ground() -> Iterator[Ground]:
    yield from ground("redis", 2)


@pytest.fixture(scope="module")
def one_shard_ground() -> Iterator[Ground]:
    yield from ground("redis", 1)


@pytest.fixture(scope="module")
def emulated_ground() -> Iterator[Ground]:
    if PLAIN:
        pytest.skip("a plain server is no cluster")
    yield from ground("redis", 2, cluster="emulate")


@pytest.fixture(scope="module")
def memcached_ground() -> Iterator[Ground]:
    yield from ground("memcached", 2)


@pytest.fixture(scope="module")
def single_ground() -> Iterator[Ground]:
    yield from ground("memcached", 2, replicas=1)


@pytest.mark.parametrize(("program", "part"), cases(REDIS_PROGRAMS))
def test_redis(program: Program, part: str, redis_ground: Ground) -> None:
    redis_ground.run(program, part)


@pytest.mark.parametrize(("program", "part"), cases(ONE_SHARD_PROGRAMS))
def test_redis_with_one_shard(program: Program, part: str, one_shard_ground: Ground) -> None:
    one_shard_ground.run(program, part)


@pytest.mark.parametrize(("program", "part"), cases(CLUSTER_PROGRAMS))
def test_redis_as_a_cluster(program: Program, part: str, emulated_ground: Ground) -> None:
    emulated_ground.run(program, part)


@pytest.mark.parametrize(("program", "part"), cases(MEMCACHED_PROGRAMS))
def test_memcached(program: Program, part: str, memcached_ground: Ground) -> None:
    memcached_ground.run(program, part)


@pytest.mark.parametrize(("program", "part"), cases(SINGLE_PROGRAMS))
def test_memcached_without_replicas(program: Program, part: str, single_ground: Ground) -> None:
    single_ground.run(program, part)
