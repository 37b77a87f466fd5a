"""Asks pylibmc, a client program as people run it, which of six memcached servers it sends keys to.

make_libmemcached.py calls the library's placement function; here a whole client of another
libmemcached version (the one in pylibmc's wheel) talks to servers, with the behaviours that
pylibmc's documentation suggests. Each server is a few lines here that answer a get with the
server's position.

Run: ``python tests/vectors/make_pylibmc.py``. Needs pylibmc (PyPI), trio, and ports 21251-21256 free.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

import pylibmc
import trio
from vectorlib import HERE, LineReader, Shard, keys, write_vectors

PORTS = range(21251, 21257)
WEIGHTS = [1, 2, 3, 4, 10, 1]
EQUAL = [1] * len(WEIGHTS)


@dataclass(frozen=True)
class Setup:
    """How a program configures pylibmc, and what that is called here."""

    file: str
    behaviors: dict[str, bool | str]
    weights: list[int]
    distribution: str
    column: str

    def shards(self) -> list[Shard]:
        addresses = [f"127.0.0.1:{port}" for port in PORTS]
        return [Shard(each, weight, each) for each, weight in zip(addresses, self.weights, strict=True)]


SETUPS = [
    Setup("plain", {}, EQUAL, "modula", "one_at_a_time"),
    Setup("ketama", {"ketama": True}, EQUAL, "libmemcached_ketama", "one_at_a_time"),
    Setup("ketama_md5", {"ketama": True, "hash": "md5"}, EQUAL, "libmemcached_ketama", "md5"),
    Setup("ketama_weights", {"ketama": True}, WEIGHTS, "ketama", "one_at_a_time"),
    Setup("weighted", {"ketama_weighted": True}, EQUAL, "libmemcached_ketama_weighted", "shard"),
    Setup("weighted_weights", {"ketama_weighted": True}, WEIGHTS, "libmemcached_ketama_weighted", "shard"),
]


async def answer_position(position: int, stream: trio.abc.Stream) -> None:
    """A memcached whose every key holds the server's position."""
    reader = LineReader(stream)
    value = str(position).encode()
    async with stream:
        try:
            while (words := (await reader.line()).split())[0] == b"get":
                await stream.send_all(b"VALUE %s 0 %d\r\n%s\r\nEND\r\n" % (words[1], len(value), value))
        except EOFError:
            return


def ask(setup: Setup, asked: Sequence[bytes]) -> list[int]:
    """Blocks, hence runs in a thread."""
    servers = [f"{shard.address}:{shard.weight}" for shard in setup.shards()]
    client = pylibmc.Client(servers, behaviors=setup.behaviors)
    return [int(client.get(key)) for key in asked]


async def main() -> None:
    # Beyond memcached's limit a client refuses the key itself.
    asked = [key for key in keys(900) if len(key) <= 250]
    program = f"pylibmc {version('pylibmc')}, libmemcached {pylibmc.libmemcached_version}"
    async with trio.open_nursery() as nursery:
        for position, port in enumerate(PORTS):
            handler = functools.partial(answer_position, position)
            await nursery.start(functools.partial(trio.serve_tcp, handler, port, host="127.0.0.1"))
        for setup in SETUPS:
            column = await trio.to_thread.run_sync(ask, setup, asked)
            write_vectors(
                HERE / "pylibmc" / f"{setup.file}.csv",
                program=program,
                distribution=setup.distribution,
                shards=setup.shards(),
                keys=asked,
                columns={setup.column: column},
            )
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(main)
