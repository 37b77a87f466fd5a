"""The proxy as users run it: `shardproxy run` as a process of its own, with a configuration file.

Called by integration tests and benchmarks. Knows the command line, the configuration's outline and
the admin endpoints, which are the contract with users, and nothing of the package behind them.
"""

import copy
import http.client
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.eventually import eventually
from support.ports import free_port, listens
from support.process import Process

Config = Mapping[str, Any]


def pool(protocol: str, *shards: list[str], **options: object) -> dict[str, Any]:
    """The configuration of one pool, its shards named s1, s2, ... in the order given.

    Args:
        protocol: ``"redis"`` or ``"memcached"``.
        shards: each a list of backend addresses, the preferred leader first.
        options: further keys, such as ``reads="spread"``.
    """
    rows = [
        {"name": f"s{number}", "backends": [{"address": address} for address in addresses]}
        for number, addresses in enumerate(shards, start=1)
    ]
    return {"protocol": protocol, "shards": rows, **options}


class ProxyProcess(Process):
    """A running proxy; ready when ``/readyz`` says so.

    Args:
        config: the configuration as nested dicts; ``admin`` and each pool's ``listen`` may be left out
            and get free ports of 127.0.0.1, ``workers`` is 1 unless given. Or the text of a file, used
            as it is, with ``ports`` saying where it listens.
        ports: only with a text: pool name to port, and ``"admin"`` to the admin port.
        arguments: appended to the command line.
        wait_ready: False to return as soon as the admin port listens, for proxies that cannot get ready.
    """

    name = "shardproxy"

    def __init__(
        self,
        config: Config | str,
        *arguments: str,
        ports: Mapping[str, int] | None = None,
        wait_ready: bool = True,
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.config = config
        self.ports = dict(ports or {})
        """By pool name, of pools whose ``listen`` was left out; and of the admin server as ``"admin"``."""
        self._wait_for_readyz = wait_ready
        self._ports_fixed = isinstance(config, str)

    # Where it is.

    @property
    def admin_url(self) -> str:
        """``http://127.0.0.1:PORT`` of the admin server."""
        return f"http://127.0.0.1:{self.ports['admin']}"

    @property
    def redis_port(self) -> int:
        """Port of the first Redis pool; its ``listen`` must have been left out."""
        return self._first_port("redis")

    @property
    def memcached_port(self) -> int:
        """Port of the first Memcached pool; its ``listen`` must have been left out."""
        return self._first_port("memcached")

    # What it says.

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of ``GET path`` on the admin server."""
        connection = http.client.HTTPConnection("127.0.0.1", self.ports["admin"], timeout=5)
        try:
            with self.inside():
                connection.connect()
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """``GET /api/v1/status``."""
        code, body = self.get("/api/v1/status")
        assert code == 200, body
        document: dict[str, Any] = json.loads(body)
        return document

    def backend_states(self, pool: str) -> dict[str, str]:
        """State of each backend of a pool, by its address."""
        shards = self.status()["pools"][pool]["shards"]
        return {b["address"]: b["state"] for shard in shards.values() for b in shard["backends"]}

    def wait_state(self, pool: str, address: str, state: str, *, within: float = 10.0) -> None:
        """Waits until the backend is in that state."""

        def reached() -> bool:
            states = self.backend_states(pool)
            assert states.get(address) == state, states  # what `eventually` shows when time is over
            return True

        eventually(reached, within=within, what=f"{address} of {pool} is {state}")

    def metric(self, name: str, **labels: str) -> float:
        """Sum of all samples of ``name`` in ``/metrics`` whose labels include these; 0 if there is none."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            series, _, value = line.rpartition(" ")
            if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
                total += float(value)
        return total

    def reload(self) -> None:
        """Asks it to read its configuration again (SIGHUP)."""
        self._signal(signal.SIGHUP)

    # What `Process` asks.

    @property
    def config_path(self) -> Path:
        """The file it was started with."""
        return self.directory / "shardproxy.yaml"

    def choose_ports(self) -> None:
        assert not isinstance(self.config, str)
        admin = self.config.get("admin", {}).get("listen")
        self.ports = {"admin": int(admin.rpartition(":")[2]) if admin else free_port()}
        for name, options in self.config["pools"].items():
            if "listen" not in options:
                self.ports[name] = free_port()

    def command(self) -> list[str]:
        self.config_path.write_text(self.config_text())
        program = Path(sys.executable).with_name("shardproxy")
        return [str(program), "run", "--config", str(self.config_path), *self.arguments]

    def is_ready(self) -> bool:
        if not listens(self.pid, self.ports["admin"]):
            return False
        return not self._wait_for_readyz or self.get("/readyz")[0] == 200

    def config_text(self) -> str:
        """What is written to the file: the configuration with its ports filled in, as JSON, which is YAML."""
        if isinstance(self.config, str):
            return self.config
        config = copy.deepcopy(dict(self.config))
        config.setdefault("workers", 1)
        config.setdefault("admin", {"listen": f"127.0.0.1:{self.ports['admin']}"})
        for name, options in config["pools"].items():
            if name in self.ports:
                options["listen"] = [f"127.0.0.1:{self.ports[name]}"]
        return json.dumps(config, indent=1)

    def _first_port(self, protocol: str) -> int:
        assert not isinstance(self.config, str), "with a text, ask `ports`"
        for name, options in self.config["pools"].items():
            if options["protocol"] == protocol:
                return self.ports[name]
        raise KeyError(f"no {protocol} pool in the configuration")
