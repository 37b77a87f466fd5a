"""First contact with backends that no proxy has met: whose data is the truth, as `bootstrap` says.

What a backend holds is never wiped unless `bootstrap: sync` has chosen another one by the written rule: the
first in the configuration that holds anything.
"""

from collections.abc import Callable
from typing import Any

import pytest
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import MemcachedServer, RedisServer
from support.store import PROTOCOLS, QUICK, Refused, connect, contents

from proxy.control.view import view_key

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)

RECORD = view_key("p", "s1").encode()
Pair = tuple[RedisServer, RedisServer] | tuple[MemcachedServer, MemcachedServer]


@pytest.fixture
def pair(
    protocol: str,
    start_redis: Callable[..., RedisServer],
    start_memcached: Callable[..., MemcachedServer],
) -> Pair:
    if protocol == "redis":
        return start_redis(), start_redis()
    return start_memcached(), start_memcached()


def put(protocol: str, server: RedisServer | MemcachedServer, **values: bytes) -> None:
    with connect(protocol, server.port) as direct:
        for key, value in values.items():
            direct.set(key.encode(), value)


def read(protocol: str, port: int, key: bytes) -> bytes | None:
    with connect(protocol, port) as client:
        return client.get(key)


def shard_of(proxy: ProxyProcess) -> dict[str, Any]:
    found: dict[str, Any] = proxy.status()["pools"]["p"]["shards"]["s1"]
    return found


def states(proxy: ProxyProcess) -> list[tuple[str, str]]:
    """State and reason of each backend."""
    return [(each["state"], each["reason"]) for each in shard_of(proxy)["backends"]]


def config(protocol: str, pair: Pair, bootstrap: str, **options: Any) -> dict[str, Any]:
    addresses = [server.address for server in pair]
    return {"pools": {"p": pool(protocol, addresses, **{**QUICK, "bootstrap": bootstrap, **options})}}


def probed_twice_more(proxy: ProxyProcess, pair: Pair) -> None:
    """Waits for two more probes of each, behind which whatever would have been done is done."""
    name = "shardproxy_backend_probes_total"
    before = {each.address: proxy.metric(name, backend=each.address) for each in pair}
    eventually(
        lambda: all(proxy.metric(name, backend=each) > count + 2 for each, count in before.items()), within=10
    )


def test_with_sync_the_first_that_holds_data_is_the_truth(
    protocol: str, pair: Pair, start_proxy: Callable[..., ProxyProcess]
) -> None:
    first, second = pair
    put(protocol, first, k=b"first", own=b"1")
    put(protocol, second, k=b"second", other=b"2")
    proxy = start_proxy(config(protocol, pair, "sync", reads="spread"))
    assert shard_of(proxy)["lead"] == first.address
    assert states(proxy)[1] == ("stale", "differs")
    assert [read(protocol, proxy.ports["p"], b"k") for _ in range(4)] == [b"first"] * 4
    assert read(protocol, proxy.ports["p"], b"other") is None
    probed_twice_more(proxy, pair)
    assert read(protocol, second.port, b"k") == b"second", "nobody has asked for it to be filled anew"
    assert read(protocol, second.port, b"other") == b"2"
    # Now somebody does.
    proxy.terminate()
    again = start_proxy(config(protocol, pair, "sync", resync={"auto": True}))
    again.wait_state("p", second.address, "in_sync", within=20)
    assert contents(first) == contents(second)
    assert read(protocol, second.port, b"k") == b"first"
    assert read(protocol, second.port, b"other") is None


def test_with_sync_an_empty_one_is_never_the_truth(
    protocol: str, pair: Pair, start_proxy: Callable[..., ProxyProcess]
) -> None:
    first, second = pair
    put(protocol, second, k=b"second")
    proxy = start_proxy(config(protocol, pair, "sync", resync={"auto": True}))
    assert read(protocol, proxy.ports["p"], b"k") == b"second"
    proxy.wait_state("p", first.address, "in_sync", within=20)
    assert read(protocol, first.port, b"k") == b"second"
    assert read(protocol, second.port, b"k") == b"second"


def test_with_trust_all_are_taken_to_be_equal(
    protocol: str, pair: Pair, start_proxy: Callable[..., ProxyProcess]
) -> None:
    first, second = pair
    put(protocol, first, k=b"same", own=b"1")
    put(protocol, second, k=b"same", other=b"2")
    proxy = start_proxy(config(protocol, pair, "trust", reads="spread", resync={"auto": True}))
    eventually(lambda: {state for state, _ in states(proxy)} == {"in_sync"})
    assert [read(protocol, proxy.ports["p"], b"k") for _ in range(4)] == [b"same"] * 4
    probed_twice_more(proxy, pair)
    assert read(protocol, first.port, b"own") == b"1", "nothing is copied or taken away"
    assert read(protocol, second.port, b"other") == b"2"


def test_with_refuse_the_shard_stays_down_until_somebody_decides(
    protocol: str, pair: Pair, start_proxy: Callable[..., ProxyProcess]
) -> None:
    first, second = pair
    put(protocol, first, k=b"first")
    put(protocol, second, k=b"second")
    proxy = start_proxy(config(protocol, pair, "refuse", resync={"auto": True}), wait_ready=False)
    eventually(lambda: shard_of(proxy)["reason"] == "bootstrap_refused")
    assert shard_of(proxy)["lead"] is None
    with connect(protocol, proxy.ports["p"]) as client:
        with pytest.raises(Refused, match="no backend of this shard is in sync"):
            client.get(b"k")
        with pytest.raises(Refused, match="nothing was applied"):
            client.set(b"k", b"new")
    probed_twice_more(proxy, pair)
    for server, value in ((first, b"first"), (second, b"second")):
        assert read(protocol, server.port, b"k") == value
        assert read(protocol, server.port, RECORD) is None
    # As by an operator who has compared them.
    proxy.terminate()
    decided = start_proxy(config(protocol, pair, "sync"))
    assert shard_of(decided)["lead"] == first.address
    # Once there is a record it says who is in sync, whatever `bootstrap` says.
    decided.terminate()
    again = start_proxy(config(protocol, pair, "refuse"))
    assert shard_of(again)["lead"] == first.address
    assert states(again)[1][0] == "stale"
