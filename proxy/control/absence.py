"""Which shards of a pool are absent: the record that all its proxies share, and how two of them become one.

Called by `proxy.control.remap`, which decides what to do about it, and by `proxy.tasks.swap`. Values only.

With ``on_shard_loss: remap`` the keys of a lost shard are served by the next shards of the ring. Where a
key is must be agreed between all proxies, and nothing can be recorded on the shard that is lost. So the
record is kept under one reserved key on every backend of the pool that answers, changed by compare-and-set
from the epoch before, read with every health probe, and put back wherever it is missing or old.

    {"v":1,"pool":"p","epoch":7,"absent":["s2"],"returned":{"s1":12}}

``absent`` are shards whose keys are with others. ``returned`` are those that were emptied and have their
keys again, while copies written elsewhere in their absence have not all been removed yet; the number is the
least epoch of a view under which the shard may be used (0 where no view is kept), because an older view may
name a member that was not emptied.

Two records of one epoch with different contents are what two halves of a network leave behind that could
not see each other. Here neither wins: the next record has everybody absent whom either had absent. A shard
that is absent without need is emptied and comes back, which costs a cache its contents; a shard that is
present without having been emptied would serve stale values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from proxy.control.model import Reason
from proxy.control.view import RESERVED_PREFIX

RECORD_VERSION = 1
RECORD_BYTES_LIMIT = 512 * 1024
"""4096 names of 100 characters fit, and a memcached item. What is longer was not written by us."""


def absence_key(pool: str) -> str:
    """The reserved key that holds the pool's record on each of its backends."""
    return f"{RESERVED_PREFIX}absent:{pool}"


def blind_key(pool: str, shard: str) -> str:
    """The reserved key, gone after some seconds, of a proxy that cannot reach an absent shard."""
    return f"{RESERVED_PREFIX}blind:{pool}/{shard}"


def chore_key(pool: str) -> str:
    """The reserved key that names the proxy that empties and sweeps, so that not all of them do."""
    return f"{RESERVED_PREFIX}chore:{pool}"


def is_of_pool(key: bytes, pool: str) -> bool:
    """True if a reserved key is one of this pool's; another pool's says that somebody else lives there."""
    _, _, rest = key.decode("utf-8", "replace").removeprefix(RESERVED_PREFIX).partition(":")
    return rest == pool or rest.startswith(f"{pool}/")


@dataclass(frozen=True, slots=True)
class Absence:
    """One version of the record; epoch 0, with nobody in it, stands for no record. Names are sorted."""

    pool: str
    epoch: int = 0
    absent: tuple[str, ...] = ()
    returned: tuple[tuple[str, int], ...] = ()

    @property
    def floors(self) -> Mapping[str, int]:
        """Those that returned, each with the least epoch of a usable view."""
        return dict(self.returned)

    def leave(self, names: Iterable[str]) -> Absence:
        """The next version: these are absent too."""
        return _tidy(replace(self, epoch=self.epoch + 1, absent=(*self.absent, *names)))

    def enter(self, name: str, floor: int) -> Absence:
        """The next version: this one was emptied and has its keys again."""
        rest = tuple(each for each in self.absent if each != name)
        returned = (*self.returned, (name, floor))
        return _tidy(replace(self, epoch=self.epoch + 1, absent=rest, returned=returned))

    def swept(self, names: Iterable[str]) -> Absence:
        """The next version: nothing is left elsewhere of these."""
        done = set(names)
        returned = tuple(each for each in self.returned if each[0] not in done)
        return replace(self, epoch=self.epoch + 1, returned=returned)


def _tidy(record: Absence) -> Absence:
    absent = tuple(sorted(set(record.absent)))
    floors: dict[str, int] = {}
    for name, floor in record.returned:
        floors[name] = max(floor, floors.get(name, 0))
    returned = tuple(sorted((name, floor) for name, floor in floors.items() if name not in absent))
    return replace(record, absent=absent, returned=returned)


def merge(one: Absence, other: Absence) -> Absence:
    """The version after two of one epoch that differ: absent is who is absent in either of them."""
    both = replace(one, epoch=one.epoch + 1, absent=one.absent + other.absent)
    return _tidy(replace(both, returned=one.returned + other.returned))


def encode(record: Absence) -> bytes:
    """The bytes of a record; equal records give equal bytes."""
    fields = {
        "v": RECORD_VERSION,
        "pool": record.pool,
        "epoch": record.epoch,
        "absent": list(record.absent),
        "returned": record.floors,
    }
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def parse(record: bytes, pool: str) -> Absence | Reason:
    """The record in these bytes, or why it is none of ours. What we cannot read is never overwritten."""
    if len(record) > RECORD_BYTES_LIMIT:
        return Reason.RECORD_DAMAGED
    try:
        fields = json.loads(record)
    except (ValueError, RecursionError):
        return Reason.RECORD_DAMAGED
    if not isinstance(fields, dict) or not _is_count(fields.get("v"), 1):
        return Reason.RECORD_DAMAGED
    if fields["v"] != RECORD_VERSION:
        return Reason.RECORD_NEWER_VERSION
    absent, returned = fields.get("absent"), fields.get("returned")
    if (
        not isinstance(fields.get("pool"), str)
        or not _is_count(fields.get("epoch"), 1)
        or not isinstance(absent, list)
        or not all(isinstance(name, str) for name in absent)
        or not isinstance(returned, dict)
        or not all(_is_count(floor, 0) for floor in returned.values())
    ):
        return Reason.RECORD_DAMAGED
    if fields["pool"] != pool:
        return Reason.RECORD_FOREIGN
    found = _tidy(Absence(pool, fields["epoch"], tuple(absent), tuple(returned.items())))
    return found if encode(found) == record else Reason.RECORD_DAMAGED


def _is_count(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value < 1 << 63


def may_write(current: bytes | None, record: Absence) -> bool:
    """Whether ``record`` may replace what stands on a backend: nothing, or a readable one that is older.

    Of two records of one epoch the one that came first stays, so that the other's writer learns of it.
    Where none is, one may be put: that it was flushed or evicted there tells nothing about shards.
    """
    if current is None:
        return True
    found = parse(current, record.pool)
    return not isinstance(found, Reason) and found.epoch < record.epoch
