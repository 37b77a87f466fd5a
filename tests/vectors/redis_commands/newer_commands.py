"""Commands of servers newer than the one the table is learned from, in the shape of COMMAND's reply.

A backend that does not have them answers so itself; without a row the proxy could not route them.
Used by ``generate.py`` and skipped by the live comparison where the server does not know them.
"""

from typing import Any


def at_1(*flags: str) -> list[Any]:
    """The key specification of a command whose only key is its first argument."""
    begin = ["type", "index", "spec", ["index", 1]]
    find = ["type", "range", "spec", ["lastkey", 0, "keystep", 1, "limit", 0]]
    return ["flags", list(flags), "begin_search", begin, "find_keys", find]


def hash_row(name: str, arity: int, flags: list[str], *key_flags: str) -> list[Any]:
    kind = "@write" if "write" in flags else "@read"
    return [name, arity, flags, 1, 1, 1, [kind, "@hash", "@fast"], [], [at_1(*key_flags)], []]


def client_row(name: str, arity: int) -> list[Any]:
    flags = ["noscript", "loading", "stale"]
    return [name, arity, flags, 0, 0, 0, ["@slow", "@connection"], [], [], []]


NEWER: list[list[Any]] = [
    # 7.2: what clients send on connecting.
    client_row("client|setinfo", 4),
    client_row("client|no-touch", 3),
    ["waitaof", 4, ["blocking"], 0, 0, 0, ["@slow", "@blocking", "@connection"],
     ["request_policy:all_shards", "response_policy:agg_min"], [], []],
    ["cluster|myshardid", 2, ["loading", "stale"], 0, 0, 0, ["@slow"], [], [], []],
    # 7.4: expiry of hash fields.
    *[hash_row(name, -6, ["write", "denyoom", "fast"], "RW", "update")
      for name in ("hexpire", "hexpireat", "hpexpire", "hpexpireat")],
    hash_row("hpersist", -5, ["write", "fast"], "RW", "update"),
    *[hash_row(name, -5, ["readonly", "fast"], "RO", "access")
      for name in ("httl", "hpttl", "hexpiretime", "hpexpiretime")],
    # 8.0
    hash_row("hgetdel", -5, ["write", "fast"], "RW", "access", "delete"),
    hash_row("hgetex", -5, ["write", "fast"], "RW", "access", "update"),
    hash_row("hsetex", -6, ["write", "denyoom", "fast"], "RW", "update"),
]  # fmt: skip
