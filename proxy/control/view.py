"""Views on the wire and between proxies: the record, which of two wins, and what comes next.

Called by `proxy.control.shard` (deciding), `proxy.control.routing` (what a new connection must show)
and `proxy.tasks.views` (compare-and-set). Must not know who asks or how a record travels.

The record is compact JSON with fixed key order, so that equal views are equal bytes: a new backend
connection is verified by finding exactly these bytes. Proxies that share backends must give pools,
shards and backends the same names, as they must agree on hashing. While their lists of backends differ,
each makes the ones that it does not know leave, since it cannot write to them; a record that lists none
of its own is not followed at all.

    {"v":1,"pool":"p","shard":"s","epoch":7,"lead":"a:1",
     "in_sync":["a:1"],"runs":["4f.."],"joining":["b:1"],"joining_runs":["9c.."],"fanout":true,
     "parent":["a:1","b:1"]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from proxy.control.model import Reason, View

RECORD_VERSION = 1
RESERVED_PREFIX = "__shardproxy:"
MEMBER_LIMIT = 16
"""As many backends as the engine takes per shard; more in a record is damage."""
RECORD_BYTES_LIMIT = 16 * 1024
"""16 members with host names of 255 bytes, three times, fit; what is longer was not written by us."""


def view_key(pool: str, shard: str) -> str:
    """The reserved key that holds the shard's record on each of its backends."""
    return f"{RESERVED_PREFIX}view:{pool}/{shard}"


def encode(view: View) -> bytes:
    """The record of a view; equal views give equal bytes."""
    fields = {
        "v": RECORD_VERSION,
        "pool": view.pool,
        "shard": view.shard,
        "epoch": view.epoch,
        "lead": view.lead,
        "in_sync": list(view.in_sync),
        "runs": list(view.runs),
        "joining": list(view.joining),
        "joining_runs": list(view.joining_runs),
        "fanout": view.fans_out,
        "parent": list(view.parent),
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse(record: bytes, pool: str, shard: str) -> View | Reason:
    """The view in a record, or why it is none of ours: damaged, of a newer version, of another shard.

    A record we cannot read is never overwritten; somebody who can may depend on it.
    """
    view = _read(record)
    is_foreign = isinstance(view, View) and (view.pool, view.shard) != (pool, shard)
    return Reason.RECORD_FOREIGN if is_foreign else view


def lives(record: bytes) -> tuple[str, ...]:
    """Tokens of the processes in sync by a record, whichever shard's it is; none if it is unreadable."""
    view = _read(record)
    return view.runs if isinstance(view, View) else ()


def _read(record: bytes) -> View | Reason:
    """The view in a record, whichever shard's it is."""
    if len(record) > RECORD_BYTES_LIMIT:
        return Reason.RECORD_DAMAGED
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError):
        return Reason.RECORD_DAMAGED
    if not isinstance(fields, dict) or not _is_count(fields.get("v")):
        return Reason.RECORD_DAMAGED
    if fields["v"] != RECORD_VERSION:
        return Reason.RECORD_NEWER_VERSION if fields["v"] > RECORD_VERSION else Reason.RECORD_DAMAGED
    if not _is_well_formed(fields):
        return Reason.RECORD_DAMAGED
    return View(
        pool=fields["pool"],
        shard=fields["shard"],
        epoch=fields["epoch"],
        lead=fields["lead"],
        in_sync=tuple(fields["in_sync"]),
        runs=tuple(fields["runs"]),
        joining=tuple(fields["joining"]),
        joining_runs=tuple(fields["joining_runs"]),
        fans_out=fields["fanout"],
        parent=tuple(fields["parent"]),
    )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 63


def _is_well_formed(fields: Mapping[str, object]) -> bool:
    texts = all(isinstance(fields.get(name), str) for name in ("pool", "shard", "lead"))
    if not texts or not _is_count(fields.get("epoch")) or not isinstance(fields.get("fanout"), bool):
        return False
    lists: dict[str, list[object]] = {}
    for name in ("in_sync", "runs", "joining", "joining_runs", "parent"):
        value = fields.get(name)
        if not isinstance(value, list) or len(value) > MEMBER_LIMIT:
            return False
        if not all(isinstance(item, str) for item in value):
            return False
        lists[name] = value
    in_sync, joining, parent = lists["in_sync"], lists["joining"], lists["parent"]
    return (
        fields["lead"] in in_sync
        and len(set(parent)) == len(parent)
        and (not parent or not set(parent).isdisjoint(in_sync))
        and len(lists["runs"]) == len(in_sync)
        and len(lists["joining_runs"]) == len(joining)
        and len(set(in_sync)) == len(in_sync)
        and len(set(joining)) == len(joining)
        and not set(in_sync) & set(joining)
    )


def beats(challenger: View, holder: View) -> bool:
    """True if ``challenger`` is to be followed instead of ``holder``.

    The higher epoch wins. Two of one epoch are what a partition leaves, or a proxy that lost or died
    half-way; every proxy must find the same winner without asking. Of two that came from one view, that
    whose first member stands *later* in it wins: whoever made the other one had to ask this member too,
    which takes one view of an epoch only, and so has lost, unless the two could not reach the same
    backends. Then the larger set wins, then the smaller record. Where even the parents differ these
    are compared first, by nothing but size and name, so that the order is total.
    """
    return _rank(challenger) < _rank(holder)


def _rank(view: View) -> tuple[int, int, tuple[str, ...], int, int, bytes]:
    """Least first."""
    decider = min((at for at, address in enumerate(view.parent) if address in view.in_sync), default=0)
    return -view.epoch, -len(view.parent), view.parent, -decider, -len(view.in_sync), encode(view)


def is_conflict(one: View, other: View) -> bool:
    """True if both claim one epoch with different contents."""
    return one.epoch == other.epoch and one != other


def next_view(
    view: View,
    survivors: Sequence[str],
    *,
    lead: str,
    runs: Mapping[str, str] | None = None,
    joining: Sequence[str] = (),
    fans_out: bool = False,
) -> View:
    """The view after ``view``: one epoch on, with ``survivors`` in sync under ``lead``.

    Args:
        runs: tokens that replace the recorded ones, for members that live a new life and those that join.
        joining: who joins now. Whoever joined before does not any more: what it was given was a copy of
            members that may have left.
        fans_out: writes go to those that join.
    """
    tokens = runs or {}
    return View(
        pool=view.pool,
        shard=view.shard,
        epoch=view.epoch + 1,
        lead=lead,
        in_sync=tuple(survivors),
        runs=tuple(tokens.get(address, view.run_of(address)) for address in survivors),
        joining=tuple(joining),
        joining_runs=tuple(tokens.get(address, view.run_of(address)) for address in joining),
        fans_out=fans_out,
        parent=view.in_sync,
    )


def first_view(pool: str, shard: str, lead: str, runs: Mapping[str, str]) -> View:
    """Epoch 1, from first contact; ``runs`` maps each in-sync address to its token, in order."""
    return View(pool=pool, shard=shard, epoch=1, lead=lead, in_sync=tuple(runs), runs=tuple(runs.values()))
