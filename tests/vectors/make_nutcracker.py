"""Asks a real twemproxy (``nutcracker``) where keys go, for every hash and many server lists.

Each server of a pool is a small RESP server here that answers every GET with its own position, so
the answer that comes back through nutcracker names the server that nutcracker chose.

Run: ``python tests/vectors/make_nutcracker.py``. Needs ``nutcracker`` (Debian package), trio, and
the loopback addresses 127.0.0.1 to 127.0.0.3 with ports 11211, 21101-21199 and 21300-21399 free.
"""

from __future__ import annotations

import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import trio
from vectorlib import (
    HERE,
    LineReader,
    Shard,
    ask_integers,
    first_line,
    keys,
    resp_request,
    tagged_keys,
    wait_until_listening,
    write_vectors,
)

HASHES = [
    "one_at_a_time",
    "md5",
    "crc16",
    "crc32",
    "crc32a",
    "fnv1_64",
    "fnv1a_64",
    "fnv1_32",
    "fnv1a_32",
    "hsieh",
    "murmur",
    "jenkins",
]
SERVER_PORT = 21101
POOL_PORT = 21300
UNIX_DIRECTORY = Path("/tmp/shardproxy-vectors")
"""Part of a label in one file, hence fixed."""


@dataclass(frozen=True)
class Placement:
    """One file: a list of servers, asked under each of ``hashes``. A shard without address is a named one."""

    file: str
    distribution: str
    hashes: list[str]
    shards: list[Shard]
    hash_tag: str = ""

    def keys(self) -> list[bytes]:
        return tagged_keys(*self.hash_tag) if self.hash_tag else keys(1600 if len(self.hashes) > 4 else 1000)


def named(weights: list[int], prefix: str = "server") -> list[Shard]:
    return [Shard(f"{prefix}{i}", weight) for i, weight in enumerate(weights)]


NAMELESS = [
    Shard("127.0.0.1:21151", 1, "127.0.0.1:21151"),
    Shard("127.0.0.1:21152", 1, "127.0.0.1:21152"),
    Shard("127.0.0.1", 1, "127.0.0.1:11211"),
    Shard("127.0.0.2", 2, "127.0.0.2:11211"),
    Shard("127.0.0.3:21153", 1, "127.0.0.3:21153"),
    Shard(f"{UNIX_DIRECTORY}/a.sock:", 1, f"unix:{UNIX_DIRECTORY}/a.sock"),
    Shard(f"{UNIX_DIRECTORY}/b.sock:", 1, f"unix:{UNIX_DIRECTORY}/b.sock"),
]
PLACEMENTS = [
    Placement("ketama", "ketama", HASHES, named([1] * 8)),
    Placement("modula", "modula", HASHES, named([1] * 31)),
    Placement("ketama_weights", "ketama", ["fnv1a_64", "md5", "crc32a"], named([1, 2, 3, 10, 7, 1])),
    Placement("ketama_tiny_weight", "ketama", ["fnv1a_64", "murmur"], named([1, 1000, 500, 2], "cache-")),
    Placement("modula_weights", "modula", ["fnv1a_64", "md5", "crc32a"], named([1, 2, 3, 10, 7, 1])),
    Placement("ketama_nameless", "ketama", ["fnv1a_64", "md5"], NAMELESS),
    Placement("ketama_2", "ketama", ["fnv1a_64", "one_at_a_time"], named([1] * 2, "s")),
    Placement("ketama_25", "ketama", ["fnv1a_64", "md5"], named([1] * 25)),
    Placement("ketama_50", "ketama", ["fnv1a_64", "md5"], named([100] * 50, "redis-")),
    Placement("ketama_tag", "ketama", ["fnv1a_64", "md5"], named([1] * 8), "{}"),
    Placement("ketama_tag_same", "ketama", ["fnv1a_64"], named([1] * 8), "$$"),
    Placement("modula_tag", "modula", ["crc32a", "fnv1a_64"], named([1] * 8), "{}"),
]


async def answer_position(position: int, stream: trio.abc.Stream) -> None:
    """A backend: every request ``GET key`` is answered with the backend's position."""
    reader = LineReader(stream)
    reply = b"$%d\r\n%d\r\n" % (len(str(position)), position)
    async with stream:
        try:
            while True:
                for _ in range(int((await reader.line())[1:])):
                    await reader.block(int((await reader.line())[1:]))
                await stream.send_all(reply)
        except EOFError:
            return


async def listen(nursery: trio.Nursery, shard: Shard, position: int) -> str:
    """Starts the backend and returns how nutcracker is told of it (without weight and name)."""
    handler = functools.partial(answer_position, position)
    if shard.address is not None and shard.address.startswith("unix:"):
        path = shard.address.removeprefix("unix:")
        socket = trio.socket.socket(trio.socket.AF_UNIX)
        await socket.bind(path)
        socket.listen()
        nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(socket)])
        return path
    host, port = (shard.address or "127.0.0.1:0").rsplit(":", 1)
    listeners = await trio.open_tcp_listeners(int(port), host=host)
    nursery.start_soon(trio.serve_listeners, handler, listeners)
    return f"{host}:{listeners[0].socket.getsockname()[1]}"


def pool_text(name: str, port: int, placement: Placement, hash_name: str, servers: list[str]) -> str:
    lines = [f"{name}:", f"  listen: 127.0.0.1:{port}", "  redis: true", f"  hash: {hash_name}"]
    lines += [f"  distribution: {placement.distribution}", "  timeout: 20000"]
    if placement.hash_tag:
        lines.append(f'  hash_tag: "{placement.hash_tag}"')
    lines.append("  servers:")
    for shard, server in zip(placement.shards, servers, strict=True):
        name = "" if shard.address else f" {shard.label}"
        lines.append(f"    - {server}:{shard.weight}{name}")
    return "\n".join(lines) + "\n"


async def ask_all(program: str) -> None:
    configuration = ""
    ports: dict[tuple[str, str], int] = {}
    async with trio.open_nursery() as nursery:
        for placement in PLACEMENTS:
            servers = [await listen(nursery, shard, i) for i, shard in enumerate(placement.shards)]
            for hash_name in placement.hashes:
                port = ports[placement.file, hash_name] = POOL_PORT + len(ports)
                name = f"{placement.file}-{hash_name}"
                configuration += pool_text(name, port, placement, hash_name, servers)
        with tempfile.NamedTemporaryFile("w", suffix=".yml") as file:
            file.write(configuration)
            file.flush()
            command = ["nutcracker", "-c", file.name, "-a", "127.0.0.1", "-s", str(POOL_PORT + 99)]
            async with trio.open_nursery() as running:
                run = functools.partial(trio.run_process, command, capture_stderr=True, check=False)
                proxy = await running.start(run)
                await wait_until_listening("127.0.0.1", POOL_PORT + len(ports) - 1)
                for placement in PLACEMENTS:
                    asked = placement.keys()
                    requests = [resp_request(b"GET", key) for key in asked]
                    columns = {
                        hash_name: await ask_integers("127.0.0.1", ports[placement.file, hash_name], requests)
                        for hash_name in placement.hashes
                    }
                    write_vectors(
                        HERE / "nutcracker" / f"{placement.file}.csv",
                        program=program,
                        distribution=placement.distribution,
                        hash_tag=placement.hash_tag,
                        shards=placement.shards,
                        keys=asked,
                        columns=columns,
                    )
                proxy.terminate()
        nursery.cancel_scope.cancel()


def main() -> None:
    program = first_line("nutcracker", "--version").removeprefix("This is ")
    shutil.rmtree(UNIX_DIRECTORY, ignore_errors=True)
    UNIX_DIRECTORY.mkdir()
    try:
        trio.run(ask_all, program)
    finally:
        shutil.rmtree(UNIX_DIRECTORY)


if __name__ == "__main__":
    main()
