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


def counted_pairs(*flags: str) -> list[Any]:
    """The same of one whose first argument is the number of keys, each with a value behind it."""
    begin = ["type", "index", "spec", ["index", 1]]
    find = ["type", "keynum", "spec", ["keynumidx", 0, "firstkey", 1, "keystep", 2]]
    return ["flags", list(flags), "begin_search", begin, "find_keys", find]


def fast_row(group: str, name: str, arity: int, flags: list[str], *key_flags: str) -> list[Any]:
    """A command with one key, its first argument, in the category of a type."""
    kind = "@write" if "write" in flags else "@read"
    return [name, arity, flags, 1, 1, 1, [kind, f"@{group}", "@fast"], [], [at_1(*key_flags)], []]


def hash_row(name: str, arity: int, flags: list[str], *key_flags: str) -> list[Any]:
    return fast_row("hash", name, arity, flags, *key_flags)


def client_row(name: str, arity: int) -> list[Any]:
    flags = ["noscript", "loading", "stale"]
    return [name, arity, flags, 0, 0, 0, ["@slow", "@connection"], [], [], []]


def log_row(name: str, arity: int, *tips: str) -> list[Any]:
    flags = ["admin", "loading", "stale"]
    tips = ("request_policy:all_nodes", *tips)
    return [name, arity, flags, 0, 0, 0, ["@admin", "@slow", "@dangerous"], list(tips), [], []]


ARITIES = {"zrank": -3, "zrevrank": -3}
"""Where a later server takes more arguments (7.2: WITHSCORE). One that does not says so itself."""

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
    # Valkey 8.0, and what it calls its slow log from 8.1 on.
    client_row("client|capa", -3),
    client_row("client|import-source", 3),
    ["script|show", 3, ["noscript", "stale"], 0, 0, 0, ["@slow", "@scripting"], [], [], []],
    ["commandlog", -2, [], 0, 0, 0, ["@slow"], [], [], []],
    log_row("commandlog|get", 4),
    ["commandlog|help", 2, ["loading", "stale"], 0, 0, 0, ["@slow"], [], [], []],
    log_row("commandlog|len", 3, "response_policy:agg_sum"),
    log_row("commandlog|reset", 3, "response_policy:all_succeeded"),
    # Valkey 9.1, Redis 8.4.
    ["msetex", -4, ["write", "denyoom", "movablekeys"], 0, 0, 0, ["@write", "@string", "@slow"],
     ["request_policy:multi_shard", "response_policy:all_succeeded"], [counted_pairs("OW", "update")], []],
    # 8.2: deletions that look at consumer groups; 8.6: how a stream knows entries again.
    fast_row("stream", "xdelex", -5, ["write", "fast"], "RW", "delete"),
    fast_row("stream", "xackdel", -6, ["write", "fast"], "RW", "update", "delete"),
    fast_row("stream", "xcfgset", -2, ["write", "fast"], "RW", "update"),
    # 8.4, and what Valkey has had since 9.0: deletion of a value that is, or is not, a certain one.
    fast_row("string", "delex", -2, ["write", "fast"], "RW", "delete", "variable_flags"),
    fast_row("string", "delifeq", 3, ["write", "fast"], "RM", "delete"),
    # Valkey 9.1: of a cluster.
    ["clusterscan", -2, ["readonly"], 0, 0, 0, ["@keyspace", "@read", "@slow"], [], [], []],
]  # fmt: skip
