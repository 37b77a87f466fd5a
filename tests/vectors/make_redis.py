"""Asks a real redis-server for the slots of keys, and real ``redis-cli --cluster create`` for slot ranges.

Run: ``python tests/vectors/make_redis.py``. Needs redis-server, redis-cli, trio; starts servers on
127.0.0.1, ports 21201-21207 (and 31201-31207, the cluster bus), and ends them.
"""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import trio
from vectorlib import (
    HERE,
    Shard,
    ask_integers,
    first_line,
    keys,
    resp_request,
    tagged_keys,
    wait_until_listening,
    write_vectors,
)

PORT = 21201
MASTERS = [3, 5, 7]


async def make_file(masters: int, program: str) -> None:
    """Builds a cluster of that many masters and writes slot and owner of each key."""
    asked = [*keys(1200), *tagged_keys("{", "}")]
    ports = range(PORT, PORT + masters)
    options = ["--cluster-enabled", "yes", "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    servers: list[trio.Process] = []
    with tempfile.TemporaryDirectory() as directory:
        async with trio.open_nursery() as nursery:
            for port in ports:
                home = Path(directory) / str(port)
                home.mkdir()
                command = ["redis-server", *options, "--port", str(port), "--dir", str(home)]
                run = functools.partial(trio.run_process, command, capture_stdout=True, check=False)
                servers.append(await nursery.start(run))
            for port in ports:
                await wait_until_listening("127.0.0.1", port)
            nodes = [f"127.0.0.1:{port}" for port in ports]
            create = ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"]
            await trio.run_process(create, capture_stdout=True)
            owners = await slot_owners(list(ports))
            requests = [resp_request(b"CLUSTER", b"KEYSLOT", key) for key in asked]
            slots = await ask_integers("127.0.0.1", PORT, requests)
            for server in servers:
                server.terminate()
    write_vectors(
        HERE / "redis" / f"slots_{masters}.csv",
        program=program,
        distribution="slots",
        shards=[Shard(f"node{i}") for i in range(masters)],
        keys=asked,
        columns={"hash": slots, "shard": [owners[slot] for slot in slots]},
    )


async def slot_owners(ports: list[int]) -> list[int]:
    """Position of the master of each slot.

    Raises:
        ValueError: some slot has no master.
    """
    done = await trio.run_process(["redis-cli", "-p", str(ports[0]), "cluster", "nodes"], capture_stdout=True)
    owners = [-1] * 16384
    for line in done.stdout.decode().splitlines():
        fields = line.split()
        port = int(fields[1].split("@")[0].rsplit(":", 1)[1])
        for field in fields[8:]:
            first, _, last = field.partition("-")
            for slot in range(int(first), int(last or first) + 1):
                owners[slot] = ports.index(port)
    if -1 in owners:
        raise ValueError(f"slot {owners.index(-1)} has no master")
    return owners


def main() -> None:
    banner = first_line("redis-server", "--version")
    program = "redis-server " + banner.split("v=")[1].split()[0]
    for masters in MASTERS:
        trio.run(make_file, masters, program)


if __name__ == "__main__":
    main()
