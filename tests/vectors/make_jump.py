"""Asks two independent libraries where keys go: XXH64 by ``xxhash``, jump hash by ``jump-consistent-hash``.

Run: ``python tests/vectors/make_jump.py``. Needs those two packages from PyPI, and trio (for vectorlib).
"""

from __future__ import annotations

from importlib.metadata import version

import jump
import xxhash
from vectorlib import HERE, Shard, keys, write_vectors


def main() -> None:
    asked = keys(1000)
    hashes = [xxhash.xxh64_intdigest(key, seed=0) for key in asked]
    for count in [2, 10, 1000]:
        write_vectors(
            HERE / "jump" / f"jump_{count}.csv",
            program=f"xxhash {version('xxhash')}, jump-consistent-hash {version('jump-consistent-hash')}",
            distribution="jump",
            shards=[Shard(f"s{i}") for i in range(count)],
            keys=asked,
            columns={"hash": hashes, "shard": [jump.hash(each, count) for each in hashes]},
        )


if __name__ == "__main__":
    main()
