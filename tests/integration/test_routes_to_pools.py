"""Keys that a route leads to another pool: they are that pool's own in all that can be seen of them.

Two pools with servers of their own behind one proxy; the first leads `tmp:` to the second, which hashes in
another way and pins some of those keys to one of its shards.
"""

import base64
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support.cluster import merge
from support.eventually import eventually
from support.packets import (
    GET,
    GETKQ,
    INCREMENT,
    NOOP,
    SET,
    ask,
    count_extras,
    item_extras,
    packet,
    read_until_noop,
)
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import Server
from support.store import (
    PROTOCOLS,
    QUICK,
    SERVERS,
    MemcachedStore,
    RedisStore,
    Refused,
    Store,
    command,
    connect_pool,
    contents,
)

PATIENT = {
    "timeouts": {"connect": "2s", "request": "20s"},
    "health": {"interval": "2s", "timeout": "2s", "fall": 10},
}
LED = [b"tmp:%d" % number for number in range(40)] + [b"tmp:pin:%d" % number for number in range(5)]
OWN = [b"key:%d" % number for number in range(40)]
CROSSSLOT = b"-CROSSSLOT Keys in request don't hash to the same slot"


class World:
    """The pools `p` and `scratch`, each of shards of `replicas` servers.

    Attributes:
        servers: by pool, shard and replica.
    """

    def __init__(
        self,
        resources: ExitStack,
        protocol: str,
        *,
        shards: int = 2,
        replicas: int = 2,
        workers: int = 2,
        arguments: Sequence[str] = (),
        base: Any = PATIENT,
        **scratch: Any,
    ) -> None:
        self.resources = resources
        kind = SERVERS[protocol]

        def start(*arguments: str) -> list[list[Server]]:
            rows = range(shards)
            return [[resources.enter_context(kind(*arguments)) for _ in range(replicas)] for _ in rows]

        self.servers = {"p": start(), "scratch": start(*arguments)}
        rows = {name: [[each.address for each in row] for row in self.servers[name]] for name in self.servers}
        routes = [{"prefix": "tmp:", "pool": "scratch"}]
        pinned = [{"prefix": "tmp:pin:", "shard": f"s{shards}"}]
        there = {"hash": "md5", "distribution": "modula", "routes": pinned, **scratch}
        pools = {
            "p": pool(protocol, *rows["p"], routes=routes, **base),
            "scratch": pool(protocol, *rows["scratch"], **merge(base, there)),
        }
        self.proxy = resources.enter_context(ProxyProcess({"workers": workers, "pools": pools}))

    def client(self, name: str = "p") -> Store:
        return self.resources.enter_context(connect_pool(self.proxy, name))

    def redis(self, name: str = "p") -> RedisStore:
        client = self.client(name)
        assert isinstance(client, RedisStore)
        return client

    def memcached(self, name: str = "p") -> MemcachedStore:
        client = self.client(name)
        assert isinstance(client, MemcachedStore)
        return client

    def raw(self, name: str = "p") -> RawClient:
        return self.resources.enter_context(RawClient(self.proxy.ports[name], timeout=20))

    def held(self, name: str) -> dict[bytes, Any]:
        """All that the servers of a pool hold; all are in sync, and replicas of a shard hold the same."""
        states = self.proxy.backend_states(name)
        assert set(states.values()) == {"in_sync"}, states
        found: dict[bytes, Any] = {}
        for row in self.servers[name]:
            first, *others = [contents(server) for server in row]
            assert all(each == first for each in others)
            assert not found.keys() & first.keys(), "a key is on two shards"
            found |= first
        return found


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("workers", [1, 3])
def test_led_keys_are_where_the_other_pools_clients_find_them(
    resources: ExitStack, protocol: str, workers: int
) -> None:
    world = World(resources, protocol, workers=workers)
    client, other = world.client(), world.client("scratch")
    for key in [*OWN, *LED]:
        client.set(key, b"of p " + key)
    assert set(world.held("p")) == set(OWN)
    assert set(world.held("scratch")) == set(LED)
    assert all(contents(row[0]) for row in world.servers["scratch"]), "on all shards"
    pinned = {key for key in LED if key.startswith(b"tmp:pin:")}
    assert pinned <= set(contents(world.servers["scratch"][1][0]))
    for key in LED:
        assert other.get(key) == b"of p " + key
        other.set(key, b"of scratch")
        assert client.get(key) == b"of scratch"
    # The other pool's own keys are its own, whatever they are called.
    other.set(OWN[0], b"another")
    assert client.get(OWN[0]) == b"of p " + OWN[0]
    assert world.proxy.metric("shardproxy_backend_requests_total", pool="scratch") > len(LED)


def test_one_request_may_name_keys_of_both_pools(resources: ExitStack) -> None:
    client = World(resources, "redis").redis()
    keys = [key for pair in zip(OWN, LED, strict=False) for key in pair]
    pairs = [word for key in keys for word in (key, b"value of " + key)]
    assert client.ask("MSET", *pairs) == b"OK"
    assert client.ask("MGET", *keys, "tmp:none") == [*pairs[1::2], None]
    assert client.ask("EXISTS", *keys) == len(keys)
    assert client.ask("DEL", *keys[:10], "tmp:none") == 10
    assert client.ask("MGET", *keys[:11]) == [None] * 10 + [pairs[21]]
    for words in ("RENAME tmp:1 key:1", "SUNION tmp:1 key:1", "SINTERSTORE key:1 tmp:1"):
        with pytest.raises(Refused, match="CROSSSLOT"):
            client.ask(*words.split())
    # Positions of shards are not taken for each other.
    for number in range(20):
        with pytest.raises(Refused, match="CROSSSLOT"):
            client.ask("SUNION", f"tmp:pin:{number}", f"key:{number}")
    client.ask("SADD", "tmp:pin:set", 1)
    assert client.ask("SUNION", "tmp:pin:set", "tmp:pin:none") == [b"1"]


def test_text_meta_and_binary_requests_are_led_alike(resources: ExitStack) -> None:
    world = World(resources, "memcached")
    text, raw, other = world.memcached(), world.raw(), world.memcached("scratch")
    keys = [key for pair in zip(OWN[:20], LED[:20], strict=True) for key in pair]
    for key in keys:
        raw.send(b"ms %b 1\r\nx\r\n" % key)
        raw.expect(b"HD\r\n")
    text.raw.send(b"get %b\r\n" % b" ".join(keys))
    assert list(text.read_values()) == keys
    text.raw.send(b"gat 1000 %b\r\n" % b" ".join(keys))
    assert list(text.read_values()) == keys
    raw.send(b"".join(b"mg %b v q k\r\n" % key for key in [*keys, b"tmp:none"]) + b"mn\r\n")
    raw.expect(b"".join(b"VA 1 k%b\r\nx\r\n" % key for key in keys) + b"MN\r\n")
    encoded = base64.b64encode(b"tmp:meta")
    raw.send(b"ms %b 1 b\r\ny\r\n" % encoded)
    raw.expect(b"HD\r\n")
    assert other.get(b"tmp:meta") == b"y"
    other.raw.send(b"gets tmp:meta\r\n")
    token = other.read_values()[b"tmp:meta"][2]
    assert text.ask(b"cas tmp:meta 0 0 1 %b\r\nz" % token) == b"STORED"
    assert other.ask(b"cas tmp:meta 0 0 1 %b\r\nw" % token) == b"EXISTS"

    binary = world.raw()
    for key in LED[:5]:
        assert ask(binary, packet(SET, key, b"b", extras=item_extras())).status == 0
        assert other.get(key) == b"b"
    assert ask(binary, packet(INCREMENT, b"tmp:n", extras=count_extras(2, 5, 0))).value[-1] == 5
    assert ask(binary, packet(INCREMENT, b"tmp:n", extras=count_extras(2, 5, 0))).value[-1] == 7
    assert other.get(b"tmp:n") == b"7"
    binary.send(b"".join(packet(GETKQ, key) for key in keys) + packet(NOOP, opaque=b"done"))
    assert [reply.key for reply in read_until_noop(binary, b"done")] == keys
    assert ask(binary, packet(GET, b"tmp:meta")).value == b"z"
    assert world.held("p").keys() <= set(OWN)
    assert world.held("scratch").keys() == {*LED[:20], b"tmp:meta", b"tmp:n"}


def count_together(world: World, add: Callable[[RawClient, int], None]) -> None:
    """Runs `add` on connections to both listeners at once."""
    failures: list[BaseException] = []

    def run(client: RawClient, number: int) -> None:
        try:
            add(client, number)
        except BaseException as failure:
            failures.append(failure)

    clients = [world.raw(name) for name in ("p", "scratch") for _ in range(3)]
    threads = [threading.Thread(target=run, args=each) for each in zip(clients, range(6), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize("workers", [1, 3])
def test_writes_of_both_listeners_have_one_order(resources: ExitStack, protocol: str, workers: int) -> None:
    world = World(resources, protocol, workers=workers)
    keys, rounds = LED[:4], 150
    writes: dict[str, Callable[[bytes, int], bytes]] = {
        "redis": lambda key, who: command("INCR", key + b"n") + command("APPEND", key + b"s", who),
        "memcached": lambda key, who: b"incr %bn 1\r\nappend %bs 0 0 1\r\n%d\r\n" % (key, key, who),
    }
    for key in keys:
        for end, first in ((b"n", b"0"), (b"s", b"x")):
            world.client().set(key + end, first)

    def add(client: RawClient, who: int) -> None:
        for _ in range(rounds):
            client.send(b"".join(writes[protocol](key, who) for key in keys))
            for _ in range(2 * len(keys)):
                assert client.read_line()[:1] in b":S0123456789"

    count_together(world, add)
    held = world.held("scratch")
    for key in keys:
        assert world.client().get(key + b"n") == b"%d" % (6 * rounds)
        text = world.client("scratch").get(key + b"s")
        assert text is not None
        assert sorted(text[1:]) == sorted(b"012345" * rounds)
    assert held.keys() == {key + end for key in keys for end in (b"n", b"s")}


@pytest.mark.fault
@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("replica", [0, 1])
def test_the_loss_of_a_backend_there_is_not_noticed_here(
    resources: ExitStack, protocol: str, replica: int, workers: int
) -> None:
    base = merge(QUICK, {"resync": {"auto": True}})
    world = World(resources, protocol, workers=workers, base=base)
    client, other = world.client(), world.client("scratch")
    for key in [*OWN, *LED]:
        client.set(key, b"1")
    lost = world.servers["scratch"][0][replica]
    lost.kill9()
    for key in [*LED, *OWN]:
        assert client.get(key) == b"1"
    for key in [*LED, *OWN]:
        client.set(key, b"2")
    assert {client.get(key) for key in [*LED, *OWN]} == {b"2"}
    assert {other.get(key) for key in LED} == {b"2"}
    world.proxy.wait_state("scratch", lost.address, "down")
    assert set(world.proxy.backend_states("p").values()) == {"in_sync"}, "it is the other pool's"
    lost.restart()
    world.proxy.wait_state("scratch", lost.address, "in_sync", within=60)
    for key in LED:
        client.set(key, b"3")
    assert set(world.held("scratch")) == set(LED)
    assert set(world.held("p")) == set(OWN)


@pytest.mark.fault
def test_a_shard_there_is_stood_in_for_and_comes_back_empty(resources: ExitStack, protocol: str) -> None:
    world = World(resources, protocol, replicas=1, base=QUICK, on_shard_loss="remap")
    client = world.client()
    for key in [*OWN, *LED]:
        client.set(key, b"1")
    lost, rest = (row[0] for row in world.servers["scratch"])
    there = set(contents(rest))
    lost.kill9()

    def phase() -> str:
        return str(world.proxy.status()["pools"]["scratch"]["shards"]["s1"]["phase"])

    eventually(lambda: phase() == "remapped", within=30)
    assert {key for key in [*OWN, *LED] if client.get(key) == b"1"} == {*OWN, *there}
    for key in LED:
        client.set(key, b"2")
    assert set(contents(rest)) == set(LED)
    lost.restart()
    eventually(lambda: phase() == "serving", within=30)
    assert {key for key in LED if client.get(key) == b"2"} == there
    for key in LED:
        client.set(key, b"3")
    eventually(lambda: set(contents(rest)) == there, within=30, what="what it stood in for is gone")
    assert {client.get(key) for key in LED} == {b"3"}
    assert set(contents(lost)) == set(LED) - there


def test_transactions_and_watches(resources: ExitStack) -> None:
    world = World(resources, "redis", workers=3)
    client, other = world.redis(), world.redis("scratch")
    for _ in range(3):
        queue = [["SET", key, 1] for key in (*OWN[:6], *LED[:6])]
        queue += [["MGET", *OWN[:6], *LED[:6]], ["INCR", "tmp:pin:n"], ["INCR", "n"]]
        client.ask("MULTI")
        assert {client.ask(*words) for words in queue} == {b"QUEUED"}
        assert client.ask("EXEC")[:-2] == [b"OK"] * 12 + [[b"1"] * 12]
    for key in LED[:10]:
        assert client.ask("WATCH", key) == b"OK"
        assert client.ask("MGET", key, "key:1") == [b"1" if key in LED[:6] else None, b"1"]
        other.set(key, b"theirs")
        client.ask("MULTI")
        client.ask("SET", key, "mine")
        assert client.ask("EXEC") is None
        assert client.ask("WATCH", key, key) == b"OK"
        client.ask("MULTI")
        client.ask("APPEND", key, "!")
        assert client.ask("EXEC") == [7]
    client.ask("WATCH", "tmp:pin:1")
    with pytest.raises(Refused, match="CROSSSLOT"):
        client.ask("WATCH", "key:1")
    client.ask("UNWATCH")
    assert other.ask("MGET", *LED[:10]) == [b"theirs!"] * 10
    assert other.ask("GET", "tmp:pin:n") == b"3"
    world.held("scratch")


def test_blocking_commands_wait_for_keys_of_both_pools(resources: ExitStack) -> None:
    world = World(resources, "redis", workers=3)
    client, other = world.redis(), world.redis("scratch")
    for key, pusher in ((LED[0], other), (LED[1], world.redis()), (OWN[0], world.redis())):
        client.raw.send(command("BLPOP", OWN[0], LED[0], LED[1], 0))
        eventually(lambda: world.proxy.metric("shardproxy_clients_blocked", pool="p") == 1)
        pusher.ask("RPUSH", key, "job")
        assert client.raw.read_reply() == b"*2\r\n$%d\r\n%b\r\n$3\r\njob\r\n" % (len(key), key)
    other.raw.send(command("BLPOP", LED[2], 0))
    eventually(lambda: world.proxy.metric("shardproxy_clients_blocked", pool="scratch") == 1)
    client.ask("RPUSH", LED[2], "back")
    assert other.raw.read_reply().endswith(b"back\r\n")
    with pytest.raises(Refused, match="CROSSSLOT"):
        client.ask("BLMOVE", LED[0], OWN[0], "LEFT", "LEFT", 1)
    assert world.held("scratch") == {}


LIBRARY = """#!lua name=lib
redis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)
"""


def test_scripts_and_functions_are_known_there(resources: ExitStack) -> None:
    world = World(resources, "redis")
    client = world.redis()
    script = "return redis.call('APPEND', KEYS[1], ARGV[1])"
    digest = client.ask("SCRIPT", "LOAD", script)
    for expected in (1, 2):
        for key in LED:
            assert client.ask("EVALSHA", digest, 1, key, "x") == expected
        for row in world.servers["scratch"]:
            for server in row:
                with RedisStore(server.port) as direct:
                    direct.ask("SCRIPT", "FLUSH")
    with pytest.raises(Refused, match="CROSSSLOT"):
        client.ask("EVALSHA", digest, 2, LED[0], OWN[0], "x")
    assert client.ask("FUNCTION", "LOAD", LIBRARY) == b"lib"
    for key in [*LED, *OWN]:
        assert client.ask("FCALL", "put", 1, key, "f") == b"OK"
    assert world.redis("scratch").ask("FCALL", "put", 1, "mine", "f") == b"OK"
    client.ask("MULTI")
    client.ask("FUNCTION", "DELETE", "lib")
    assert client.ask("EXEC") == [b"OK"]
    for key in (LED[0], OWN[0]):
        with pytest.raises(Refused, match="Function not found"):
            client.ask("FCALL", "put", 1, key, "f")
    world.held("scratch")


def test_databases_and_patterns(resources: ExitStack) -> None:
    world = World(resources, "redis")
    client, other = world.redis(), world.redis("scratch")
    client.ask("SELECT", 3)
    client.set(LED[0], b"in 3")
    assert client.ask("MOVE", LED[0], 5) == 1
    other.ask("SELECT", 5)
    assert other.get(LED[0]) == b"in 3"
    client.ask("SELECT", 0)
    client.ask("RPUSH", "tmp:pin:list", 2, 1)
    client.ask("MSET", "tmp:pin:w1", 1, "tmp:pin:w2", 2)
    assert client.ask("SORT", "tmp:pin:list", "BY", "tmp:pin:w*") == [b"1", b"2"]
    for pattern in ("tmp:*", "key:*", "*"):
        with pytest.raises(Refused, match="BY and GET"):
            client.ask("SORT", "tmp:pin:list", "BY", pattern)
    world.held("scratch")


def test_what_concerns_all_shards_concerns_those_of_the_pool(resources: ExitStack) -> None:
    client = (world := World(resources, "redis")).redis()
    for key in [*OWN, *LED]:
        client.set(key, b"1")
    assert client.ask("DBSIZE") == len(OWN)
    assert sorted(client.ask("KEYS", "*")) == sorted(OWN)
    assert client.ask("RANDOMKEY") in OWN
    seen, cursor = set(), b"0"
    while True:
        cursor, page = client.ask("SCAN", cursor)
        seen |= set(page)
        if cursor == b"0":
            break
    assert seen == set(OWN)
    assert world.redis("scratch").ask("DBSIZE") == len(LED)
    client.ask("FLUSHALL")
    assert (world.held("p"), set(world.held("scratch"))) == ({}, set(LED))
    assert client.get(LED[0]) == b"1"


def test_a_flush_of_memcached_and_its_lists_too(resources: ExitStack) -> None:
    world = World(resources, "memcached")
    client = world.memcached()
    for key in [*OWN, *LED]:
        client.set(key, b"1")
    client.raw.send(b"lru_crawler metadump all\r\n")
    dump = client.raw.read_until(b"END\r\n")
    assert dump.count(b"key=") == len(OWN)
    assert client.ask(b"flush_all") == b"OK"
    assert client.ask(b"mn") == b"MN"
    assert {client.get(key) for key in OWN} == {None}
    assert {client.get(key) for key in LED} == {b"1"}


def test_channels_are_the_pools_own(resources: ExitStack) -> None:
    world = World(resources, "redis")
    client, other = world.redis(), world.redis("scratch")
    subscriber = world.redis()
    subscriber.ask("SUBSCRIBE", "tmp:news")
    assert other.ask("PUBLISH", "tmp:news", "there") == 0
    assert client.ask("PUBLISH", "tmp:news", "here") == 1
    assert subscriber.raw.read_reply().endswith(b"here\r\n")


@pytest.fixture
def password_file(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.write_text("secret\n")
    return str(path)


def test_backends_there_are_logged_in_to_as_their_pool_says(resources: ExitStack, password_file: str) -> None:
    world = World(resources, "redis", replicas=1, backend_auth={"password_file": password_file}, arguments=[
        "--requirepass",
        "secret",
    ])  # fmt: skip
    client = world.client()
    for key in LED[:10]:
        client.set(key, b"1")
        assert client.get(key) == b"1"
