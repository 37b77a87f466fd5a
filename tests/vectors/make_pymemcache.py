"""Asks the real pymemcache where keys go: its ``HashClient`` with the default rendezvous hasher.

Run: ``python tests/vectors/make_pymemcache.py``. Needs pymemcache and trio (for vectorlib); no server.
"""

from __future__ import annotations

from importlib.metadata import version

from pymemcache.client.hash import HashClient
from vectorlib import HERE, Shard, keys, write_vectors

LISTS = {
    "rendezvous": [
        Shard("127.0.0.1:11211", 1, "127.0.0.1:11211"),
        Shard("127.0.0.1:11212", 1, "127.0.0.1:11212"),
        Shard("cache-a.example:11211", 1, "cache-a.example:11211"),
        Shard("::1:11213", 1, "[::1]:11213"),
        Shard("/run/cache/a.sock", 1, "unix:/run/cache/a.sock"),
    ],
    "rendezvous_40": [Shard(f"10.1.0.{i}:11211", 1, f"10.1.0.{i}:11211") for i in range(40)],
    # Code points 256 apart look alike to its hash: every score ties, and the greater label wins.
    "rendezvous_ties": [
        Shard("/run/é.sock", 1, "unix:/run/é.sock"),
        Shard("/run/ǩ.sock", 1, "unix:/run/ǩ.sock"),
        Shard("/run/ĩ.sock", 1, "unix:/run/ĩ.sock"),
        Shard("/run/a.sock", 1, "unix:/run/a.sock"),
        Shard("/run/š.sock", 1, "unix:/run/š.sock"),
    ],
}


def text_keys() -> list[bytes]:
    """The keys that a program can give pymemcache as ``str``."""
    found = []
    for key in keys(2600):
        try:
            key.decode()
        except UnicodeDecodeError:
            continue
        found.append(key)
    return found


def main() -> None:
    asked = text_keys()
    for file, shards in LISTS.items():
        client = HashClient([shard.address for shard in shards], allow_unicode_keys=True)
        position = {shard.label: i for i, shard in enumerate(shards)}
        write_vectors(
            HERE / "pymemcache" / f"{file}.csv",
            program=f"pymemcache {version('pymemcache')}",
            distribution="rendezvous",
            shards=shards,
            keys=asked,
            columns={"shard": [position[client.hasher.get_node(key.decode())] for key in asked]},
        )


if __name__ == "__main__":
    main()
