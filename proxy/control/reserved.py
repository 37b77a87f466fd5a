"""Names of the keys that proxies keep for themselves in the backends of a Redis pool. Values only.

Called by whoever keeps such a key, and by `proxy.control.routing`: the engine leaves these keys out where it
counts keys, and keeps them where it removes all others.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.control.absence import absence_key, blind_key, chore_key
from proxy.control.view import RESERVED_PREFIX, view_key

LEASE_PREFIX = f"{RESERVED_PREFIX}lease:"
TOKEN_PREFIX = f"{RESERVED_PREFIX}copier:"
TRIAL_PREFIX = f"{RESERVED_PREFIX}trial:"


def lease_key(pool: str, shard: str) -> str:
    """The reserved key on a shard's leader that names the proxy which resynchronises its backends."""
    return f"{LEASE_PREFIX}{pool}/{shard}"


def token_key(pool: str, shard: str) -> str:
    """The reserved key on the target of a copy that names the attempt whose requests count."""
    return f"{TOKEN_PREFIX}{pool}/{shard}"


def trial_key(pool: str, shard: str) -> str:
    """A reserved key on the target of a copy that a payload of the leader is tried with."""
    return f"{TRIAL_PREFIX}{pool}/{shard}"


def reserved_keys(pool: str, shard: str, blind_to: Iterable[str] | None = None) -> tuple[str, ...]:
    """All that may stand on a backend of the shard.

    Args:
        blind_to: with ``on_shard_loss: remap`` the names of the absent shards; None without.
    """
    own = tuple(name(pool, shard) for name in (view_key, lease_key, token_key, trial_key))
    if blind_to is None:
        return own
    return (*own, absence_key(pool), chore_key(pool), *(blind_key(pool, name) for name in blind_to))
