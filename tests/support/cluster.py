"""Backends, relays in front of them where wanted, and a proxy with one pool over all of it.

Called by integration tests. Knows how the pieces are put together, nothing of what is tested.
"""

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.relay import Relay
from support.servers import Server
from support.store import QUICK, SERVERS, Store, connect, contents


class Cluster:
    """One pool named ``p`` with servers of its own.

    Args:
        protocol: ``"redis"`` or ``"memcached"``.
        shards: how many.
        replicas: backends per shard.
        workers: threads of the proxy.
        servers: kinds of servers by protocol, where they are not the usual ones.
        relays: True to put a relay between the proxy and each backend.
        arguments: further ones of each server's command line.
        options: further keys of the pool, over those of `support.store.QUICK`.

    Attributes:
        servers: by shard, then in configuration order.
        relays: as ``servers``, empty without relays.
    """

    def __init__(
        self,
        protocol: str,
        *,
        shards: int = 1,
        replicas: int = 2,
        workers: int = 1,
        relays: bool = False,
        servers: Mapping[str, type[Server]] = SERVERS,
        arguments: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.protocol = protocol
        self._stack = ExitStack()
        kind = servers.get(protocol, SERVERS[protocol])
        self.servers: list[list[Server]] = []
        self.relays: list[list[Relay]] = []
        try:
            for _ in range(shards):
                row = [self._stack.enter_context(kind(*arguments)) for _ in range(replicas)]
                self.servers.append(row)
                if relays:
                    self.relays.append([self._stack.enter_context(Relay(server.port)) for server in row])
            self.options = merge(QUICK, options)
            self._workers = workers
            self.proxy = self.start_proxy()
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_proxy(self, **options: Any) -> ProxyProcess:
        """One more proxy over the same backends, ready."""
        addresses = [[place.address for place in row] for row in self.relays or self.servers]
        pools = {"p": pool(self.protocol, *addresses, **merge(self.options, options))}
        return self._stack.enter_context(ProxyProcess({"workers": self._workers, "pools": pools}))

    def connect(self) -> Store:
        """A connection through the proxy."""
        return connect(self.protocol, self.proxy.ports["p"])

    def address(self, replica: int, shard: int = 0) -> str:
        """What the configuration calls a backend."""
        return (self.relays or self.servers)[shard][replica].address

    def wait_state(self, replica: int, *states: str, shard: int = 0, within: float = 10.0) -> None:
        """Waits until a backend is in one of these states."""
        address = self.address(replica, shard)
        eventually(
            lambda: self.proxy.backend_states("p")[address] in states,
            within=within,
            what=f"{address} is {' or '.join(states)}",
        )

    def shard_status(self, shard: int = 0) -> dict[str, Any]:
        """One shard of ``/api/v1/status``."""
        found: dict[str, Any] = self.proxy.status()["pools"]["p"]["shards"][f"s{shard + 1}"]
        return found

    def members(self, shard: int = 0) -> list[int]:
        """Positions of the backends of a shard that are in sync now."""
        states = self.proxy.backend_states("p")
        count = len(self.servers[shard])
        return [number for number in range(count) if states[self.address(number, shard)] == "in_sync"]

    def differences(self) -> dict[bytes, list[Any]]:
        """Keys whose values differ between the in-sync backends of a shard, with what each has."""
        found = {}
        for shard, row in enumerate(self.servers):
            copies = [contents(row[number]) for number in self.members(shard)]
            for key in sorted(set().union(*copies)):
                values = [each.get(key) for each in copies]
                if any(value != values[0] for value in values):
                    found[key] = values
        return found


def merge(base: Any, over: Any) -> Any:
    """Nested mappings, those of ``over`` before those of ``base``."""
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        merged[key] = merge(merged[key], value) if isinstance(merged.get(key), dict) else value
    return merged
