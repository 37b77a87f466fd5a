"""Asks the real libmemcached where keys go, with and without weights.

Compiles place_libmemcached.c against the installed library and feeds it keys; no server is needed.

Run: ``python tests/vectors/make_libmemcached.py``. Needs a C compiler as ``cc`` and libmemcached-dev.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vectorlib import HERE, Shard, first_line, keys, write_vectors

HASHES = ["one_at_a_time", "md5", "crc32", "fnv1_64", "fnv1a_64", "fnv1_32", "fnv1a_32", "murmur", "jenkins"]
"""All of libmemcached's that twemproxy has too, but for hsieh: Debian builds without it."""

SERVERS = [
    Shard("127.0.0.1:11212", 1, "127.0.0.1:11212"),
    Shard("127.0.0.1", 1, "127.0.0.1:11211"),
    Shard("cache-a.example", 1, "cache-a.example:11211"),
    Shard("cache-b.example:22122", 1, "cache-b.example:22122"),
    Shard("::1:11213", 1, "[::1]:11213"),
    Shard("/run/cache/a.sock:0", 1, "unix:/run/cache/a.sock"),
]


def reweighted(weights: Sequence[int]) -> list[Shard]:
    return [replace(server, weight=weight) for server, weight in zip(SERVERS, weights, strict=True)]


def many(count: int) -> list[Shard]:
    return [Shard(f"10.0.0.{i}", 1, f"10.0.0.{i}:11211") for i in range(count)]


def place(
    program: Path, mode: str, hash_name: str, shards: Sequence[Shard], asked: Sequence[bytes]
) -> list[int]:
    servers: list[str] = []
    for shard in shards:
        assert shard.address is not None
        if shard.address.startswith("unix:"):
            servers += [shard.address.removeprefix("unix:"), "0", str(shard.weight)]
        else:
            host, port = shard.address.rsplit(":", 1)
            servers += [host.strip("[]"), port, str(shard.weight)]
    command = [str(program), mode, hash_name, *servers]
    text = "".join(key.hex() + "\n" for key in asked)
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in result.stdout.split()]


def main() -> None:
    name = "libmemcached " + first_line("pkg-config", "--modversion", "libmemcached")
    asked = keys()
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "place"
        source = HERE / "place_libmemcached.c"
        subprocess.run(["cc", "-O1", "-Wall", "-o", program, source, "-lmemcached"], check=True, timeout=60)
        weighted = {
            "ketama_weighted": reweighted([1, 2, 3, 10, 7, 1]),
            "ketama_weighted_equal": SERVERS,
            "ketama_weighted_25": many(25),
        }
        for file, shards in weighted.items():
            write_vectors(
                HERE / "libmemcached" / f"{file}.csv",
                program=name,
                distribution="libmemcached_ketama_weighted",
                shards=shards,
                keys=asked,
                columns={"shard": place(program, "weighted", "md5", shards, asked)},
            )
        for file, shards in {"ketama": SERVERS, "ketama_25": many(25)}.items():
            hashes = HASHES if file == "ketama" else ["md5", "one_at_a_time"]
            write_vectors(
                HERE / "libmemcached" / f"{file}.csv",
                program=name,
                distribution="libmemcached_ketama",
                shards=shards,
                keys=asked,
                columns={each: place(program, "unweighted", each, shards, asked) for each in hashes},
            )


if __name__ == "__main__":
    main()
