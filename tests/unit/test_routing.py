"""From shard states to the table the engine gets."""

from __future__ import annotations

from proxy.control.event import CommitWon, Probed, WriteFailed
from proxy.control.model import BackendSpec, Condition, Incarnation, PoolSpec, ProbeResult, ShardSpec
from proxy.control.routing import UNRESOLVED, build, restore_request, shard_routing
from proxy.control.shard import step
from proxy.control.state import ShardState, new_shard

A, B = "127.0.0.1:7001", "cache-1:7002"


def serving(protocol: str = "redis", **settings: object) -> ShardState:
    spec = ShardSpec("s", (BackendSpec(A, "x"), BackendSpec(B, "y")), weight=3)
    shard = new_shard(PoolSpec("p", protocol, (spec,), **settings), spec, 0.0)  # type: ignore[arg-type]
    for address, run in ((A, "41@1"), (B, "42@1")):
        answer = ProbeResult(address, incarnation=Incarnation(run), record_known=True, items=0)
        shard, _ = step(shard, Probed(answer), 0.0)
    if shard.pending is not None:
        shard, _ = step(shard, CommitWon(shard.pending), 0.0)
    return shard


def test_all_in_sync() -> None:
    table = build(9, [(serving().pool, [serving()])], {B: "10.0.0.2:7002"})
    shard = table.pools[0].shards[0]
    assert (table.epoch, shard.name, shard.weight, shard.epoch) == (9, "s", 3, 1)
    assert [each.address for each in shard.backends] == [A, "10.0.0.2:7002"]
    assert [each.name for each in shard.backends] == [A, B]
    assert (shard.lead, shard.in_sync, shard.reads, shard.spread) == (0, (0, 1), (0, 1), False)


def test_redis_connections_show_record_and_process() -> None:
    state = serving()
    (request, needle), info = shard_routing(state, {}).backends[0].verify
    key = b"__shardproxy:view:p/s"
    assert request == b"*2\r\n$3\r\nGET\r\n$21\r\n" + key + b"\r\n"
    assert needle == b"$%d\r\n%s\r\n" % (len(state.record), state.record)
    assert info == (b"*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n", b"run_id:41@1")


def test_memcached_connections_show_record_and_process() -> None:
    state = serving("memcached")
    (request, needle), stats = shard_routing(state, {}).backends[1].verify
    assert request == b"get __shardproxy:view:p/s\r\n"
    assert needle == b"VALUE __shardproxy:view:p/s 0 %d\r\n%s\r\n" % (len(state.record), state.record)
    assert stats == (b"stats\r\n", b"STAT pid 42\r\n")


def test_restore_puts_the_record_back() -> None:
    state = serving("memcached")
    expected = b"set __shardproxy:view:p/s 0 0 %d\r\n%s\r\n" % (len(state.record), state.record)
    assert shard_routing(state, {}).restore == expected
    assert restore_request("redis", "k", b"v") == b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"


def test_a_name_that_never_resolved_still_parses() -> None:
    assert shard_routing(serving(), {}).backends[1].address == UNRESOLVED


def test_without_replication_nothing_is_verified_or_restored() -> None:
    shard = shard_routing(serving(replication="none"), {})
    assert (shard.lead, shard.in_sync, shard.epoch, shard.restore) == (0, (0,), 0, b"")
    assert all(each.verify == () for each in shard.backends)


def test_our_own_keys_are_named_where_there_may_be_some() -> None:
    assert b"__shardproxy:view:p/s" in shard_routing(serving(), {}).reserved
    assert shard_routing(serving(replication="none"), {}).reserved == ()


def test_reads_skip_one_that_must_leave_while_writes_wait_for_the_view() -> None:
    state, _ = step(serving(), WriteFailed(A), 0.0)
    shard = shard_routing(state, {})
    assert (shard.in_sync, shard.reads) == ((0, 1), (1,))
    assert state.pending is not None
    state, _ = step(state, CommitWon(state.pending), 0.0)
    shard = shard_routing(state, {})
    assert (shard.lead, shard.in_sync, shard.reads) == (1, (1,), (1,))
    assert shard.backends[0].verify == ()


def test_reads_skip_one_that_loads_unless_it_is_the_only_one() -> None:
    loading = ProbeResult(A, incarnation=Incarnation("41@1"), condition=Condition.LOADING)
    state, _ = step(serving(), Probed(loading), 0.0)
    assert shard_routing(state, {}).reads == (1,)
    alone, _ = step(serving(replication="none"), Probed(loading), 0.0)
    assert shard_routing(alone, {}).reads == (0,)


def test_nearest_reads_try_our_zone_first() -> None:
    assert shard_routing(serving(reads="nearest", zone="y"), {}).reads == (1, 0)
    assert shard_routing(serving(reads="nearest"), {}).reads == (0, 1)


def test_spread_is_handed_on() -> None:
    assert shard_routing(serving(reads="spread"), {}).spread


def test_a_lost_shard_has_no_lead_and_no_targets() -> None:
    spec = ShardSpec("s", (BackendSpec(A), BackendSpec(B)))
    shard = shard_routing(new_shard(PoolSpec("p", "redis", (spec,)), spec, 0.0), {})
    assert (shard.lead, shard.in_sync, shard.reads, shard.restore) == (None, (), (), b"")
