"""Laws of the placements, through the built engine: balance, minimal movement, hash tags.

What each placement computes exactly is compared with other programs elsewhere (``tests/vectors``); these
hold for any list of shards.
"""

import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy import _engine

KEYS = [b"key:%d" % n for n in range(4000)]
RINGS = ["ketama", "libmemcached_ketama", "libmemcached_ketama_weighted", "rendezvous", "jump"]
"""Distributions under which a change of the shards moves only the keys it must."""

Shards = list[tuple[str, int]]

name = st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=20)
names = st.lists(name, min_size=2, max_size=12, unique=True)
hashes = st.sampled_from(["md5", "murmur", "one_at_a_time", "jenkins"])
"""Those that spread keys that are alike. Twemproxy's fnv hashes, cut to 32 bits, do not: of `key:0` to
`key:3999` two shards can get 95 and 5 percent. Being the same as twemproxy comes first."""


def table(
    distribution: str, hash_name: str, shards: Shards, tag: str = "", absent: Sequence[int] = ()
) -> _engine.PoolTable:
    """A pool's placement; the backends are never connected to."""
    rows = []
    for position, (name, weight) in enumerate(shards):
        backend = _engine.BackendTable(name=name, address=f"127.0.0.1:{position + 1}", verify=[])
        row = _engine.ShardTable(
            name=name, weight=weight, backends=[backend], lead=0, in_sync=[0], reads=[0], spread=False,
            epoch=1, restore=b"",
        )  # fmt: skip
        rows.append(row)
    return _engine.PoolTable(
        hash=hash_name, distribution=distribution, hash_tag=tag, shards=rows, absent=absent
    )


def owners(pool: _engine.PoolTable, shards: Shards, keys: list[bytes]) -> list[str]:
    return [shards[pool.route(key).shard][0] for key in keys]


@pytest.mark.parametrize("distribution", [*RINGS, "modula", "slots"])
@settings(max_examples=20, deadline=None)
@given(names=names, hash_name=hashes)
def test_every_shard_gets_its_share(distribution: str, names: list[str], hash_name: str) -> None:
    shards = [(name, 1) for name in names]
    counts = Counter(owners(table(distribution, hash_name, shards), shards, KEYS))
    share = len(KEYS) / len(names)
    # With 160 points a shard's share of a ring varies by about 1/sqrt(160); five times that is never seen.
    # The other placements only have the variance of the sample, and of keys that are alike.
    slack = 0.5 + 5 / math.sqrt(share)
    for name in names:
        assert share * (1 - slack) < counts[name] < share * (1 + slack), (distribution, counts)


@pytest.mark.parametrize("distribution", ["ketama", "libmemcached_ketama_weighted", "slots", "modula"])
@settings(max_examples=20, deadline=None)
@given(names=names, hash_name=hashes, heavy=st.integers(2, 5))
def test_weights_are_shares(distribution: str, names: list[str], hash_name: str, heavy: int) -> None:
    shards = [(name, heavy if position == 0 else 1) for position, name in enumerate(names)]
    counts = Counter(owners(table(distribution, hash_name, shards), shards, KEYS))
    expected = len(KEYS) * heavy / (heavy + len(names) - 1)
    assert 0.5 * expected < counts[names[0]] < 1.6 * expected


@pytest.mark.parametrize("distribution", RINGS)
@settings(max_examples=20, deadline=None)
@given(names=names, hash_name=hashes)
def test_a_new_shard_takes_keys_and_gives_none_to_others(
    distribution: str, names: list[str], hash_name: str
) -> None:
    """As the number of servers is part of ketama's arithmetic (a point count that is rounded), equal weights
    keep all points where they were except at the counts where a float comes out one short."""
    few = [(name, 1) for name in names[:-1]]
    many = [(name, 1) for name in names]
    before = owners(table(distribution, hash_name, few), few, KEYS)
    after = owners(table(distribution, hash_name, many), many, KEYS)
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    elsewhere = [move for move in moved if move[1] != names[-1]]
    assert len(elsewhere) <= len(KEYS) * 0.01, elsewhere[:5]
    assert 0 < len(moved) < len(KEYS) * 2.2 / len(names)


@pytest.mark.parametrize("distribution", ["ketama", "libmemcached_ketama", "rendezvous"])
@settings(max_examples=20, deadline=None)
@given(names=names, hash_name=hashes, data=st.data())
def test_the_order_of_the_list_does_not_matter(
    distribution: str, names: list[str], hash_name: str, data: st.DataObject
) -> None:
    shards = [(name, 1) for name in names]
    shuffled = data.draw(st.permutations(shards))
    before = owners(table(distribution, hash_name, shards), shards, KEYS[:1000])
    assert before == owners(table(distribution, hash_name, shuffled), shuffled, KEYS[:1000])


plain = st.binary(max_size=20).filter(lambda text: b"{" not in text and b"}" not in text)


@pytest.mark.parametrize("distribution", ["ketama", "modula", "jump", "slots"])
@settings(max_examples=50, deadline=None)
@given(tag=plain.filter(len), before=plain, after=st.binary(max_size=20), other=plain)
def test_keys_of_one_tag_are_together(
    distribution: str, tag: bytes, before: bytes, after: bytes, other: bytes
) -> None:
    shards = [(f"s{n}", 1) for n in range(9)]
    pool = table(distribution, "fnv1a_64", shards, "{}")
    one, two = before + b"{" + tag + b"}" + after, other + b"{" + tag + b"}"
    assert pool.route(one).hashed == tag
    assert pool.route(one).shard == pool.route(two).shard == pool.route(b"{" + tag + b"}x").shard


@settings(max_examples=50, deadline=None)
@given(key=st.binary(max_size=40))
def test_a_key_without_a_whole_tag_is_hashed_whole(key: bytes) -> None:
    shards = [(f"s{n}", 1) for n in range(9)]
    pool = table("ketama", "fnv1a_64", shards, "{}")
    start = key.find(b"{")
    end = key.find(b"}", start + 1)
    if start < 0 or end < 0 or end == start + 1:
        assert pool.route(key).hashed == key
    else:
        assert pool.route(key).hashed == key[start + 1 : end]


weighted = st.lists(st.tuples(name, st.integers(1, 4)), min_size=2, max_size=9, unique_by=lambda row: row[0])
WEIGHTLESS = {"libmemcached_ketama", "rendezvous", "jump"}


@pytest.mark.parametrize("distribution", [each for each in _engine.DISTRIBUTIONS if each != "random"])
@settings(max_examples=30, deadline=None)
@given(shards=weighted, hash_name=hashes, data=st.data())
def test_only_keys_of_absent_shards_move(
    distribution: str, shards: Shards, hash_name: str, data: st.DataObject
) -> None:
    """One shard after the other goes: its keys, and no others, move each time, and go to one that is left."""
    if distribution in WEIGHTLESS:
        shards = [(label, 1) for label, _ in shards]
    leavers = data.draw(st.permutations(range(len(shards))))[1:]
    keys = KEYS[:500]
    whole = table(distribution, hash_name, shards)
    home = before = [whole.route(key).shard for key in keys]
    for count in range(len(leavers) + 1):
        absent = leavers[:count]
        pool = table(distribution, hash_name, shards, absent=absent)
        routes = [pool.route(key) for key in keys]
        after = [route.shard for route in routes]
        assert [route.home for route in routes] == home
        assert not set(after) & set(absent)
        moved = {old for old, new in zip(before, after, strict=True) if old != new}
        assert moved <= set(absent[-1:]), "keys of a shard that did not leave moved"
        before = after


def test_an_absence_is_checked() -> None:
    shards = [("a", 1), ("b", 1)]
    with pytest.raises(ValueError, match="shard 2, which there is not"):
        table("ketama", "md5", shards, absent=[2])
    with pytest.raises(ValueError, match="every shard is absent"):
        table("ketama", "md5", shards, absent=[0, 1])
