"""Real redis-server, memcached and nutcracker processes for tests and benchmarks.

Each has a directory and a port of its own and lives as long as its ``with`` block. Nothing is shared
between tests, so they run in parallel in any order.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.ports import free_port, listens
from support.process import Process
from support.raw import RawClient


def find_program(name: str) -> str:
    """The path of a program, also where Debian puts daemons.

    Raises:
        FileNotFoundError: it is not installed; ``make test`` installs what is missing.
    """
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin")
    if path is None:
        raise FileNotFoundError(f"{name} is not installed; `make test` installs it")
    return path


def has_program(name: str) -> bool:
    """True if `find_program` would find it."""
    try:
        find_program(name)
    except FileNotFoundError:
        return False
    return True


class Server(Process):
    """A server on one TCP port of 127.0.0.1."""

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        """Args:
        arguments: appended to the command line.
        port: the port to use; a free one if not given.
        """
        super().__init__()
        self.arguments = arguments
        self.port = port or 0
        self._ports_fixed = port is not None

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]} port {self.port}>"

    @property
    def address(self) -> str:
        """As a configuration names it: ``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    def choose_ports(self) -> None:
        self.port = free_port()

    def is_ready(self) -> bool:
        if not listens(self.pid, self.port):
            return False
        with self.inside():
            client = RawClient(self.port, timeout=1.0)
        with client:
            return self.answers(client)

    def answers(self, client: RawClient) -> bool:
        """True if the server answers on this new connection; asked once it listens."""
        raise NotImplementedError


REDIS = "SHARDPROXY_TEST_REDIS_SERVER"
"""Environment variable: a redis-server or valkey-server to test with instead of the installed one."""


def redis_server() -> str:
    """The redis-server that tests start: the one that the environment names, or the installed one.

    Raises:
        FileNotFoundError: it is not there.
    """
    return find_program(os.environ.get(REDIS) or RedisServer.name)


class RedisServer(Server):
    """A redis-server that keeps nothing on disk, and feeds a replica at once."""

    name = "redis-server"

    def command(self) -> list[str]:
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.directory)]
        options += ["--save", "", "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no"]
        # Otherwise each replica waits 5 seconds for others that might come.
        options += ["--repl-diskless-sync-delay", "0"]
        return [redis_server(), *options, *self.arguments]

    def answers(self, client: RawClient) -> bool:
        client.send(b"PING\r\n")
        # Also ready when it wants a password first; but not while it loads.
        return client.read_line().startswith((b"+PONG", b"-NOAUTH"))


NEWER_MEMCACHED = "SHARDPROXY_TEST_NEW_MEMCACHED"
"""Environment variable: a memcached newer than the installed one, for the tests that run with both."""


def newer_memcached() -> str | None:
    """The program it names, if it names one that is there."""
    return shutil.which(os.environ.get(NEWER_MEMCACHED, ""))


class MemcachedServer(Server):
    """A memcached with one thread and 64 MiB.

    Args:
        program: another one than the installed.
    """

    name = "memcached"

    def __init__(self, *arguments: str, port: int | None = None, program: str | None = None) -> None:
        super().__init__(*arguments, port=port)
        self.program = program or self.name

    def command(self) -> list[str]:
        options = ["-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-t", "1", "-m", "64"]
        if os.geteuid() == 0:
            options += ["-u", "root"]  # it refuses to run as root unless told so
        return [find_program(self.program), *options, *self.arguments]

    def answers(self, client: RawClient) -> bool:
        client.send(b"version\r\n")
        # Also ready when it wants a login first (`-Y`).
        return client.read_line().startswith((b"VERSION ", b"CLIENT_ERROR unauthenticated"))


class UnequalMemcachedServer(MemcachedServer):
    """Every second one started takes no items beyond half a MiB, which the one before it does."""

    started = 0

    def __init__(self, *arguments: str, port: int | None = None) -> None:
        UnequalMemcachedServer.started += 1
        smaller = ("-I", "512k") if UnequalMemcachedServer.started % 2 == 0 else ()
        super().__init__(*arguments, *smaller, port=port)


class Nutcracker(Server):
    """twemproxy in front of the servers given, with one pool.

    Args:
        servers: each as its configuration writes it: ``"127.0.0.1:7001:1"`` or with a name behind it.
        protocol: ``"redis"`` or ``"memcached"``.
        options: further keys of the pool, such as ``{"hash": "md5", "distribution": "ketama"}``.
    """

    name = "nutcracker"

    def __init__(
        self,
        servers: Sequence[str],
        protocol: str,
        options: Mapping[str, str | int | bool] | None = None,
        *,
        port: int | None = None,
    ) -> None:
        super().__init__(port=port)
        self.servers = list(servers)
        self.protocol = protocol
        self.options = dict(options or {})
        self._statistics_port = 0

    def choose_ports(self) -> None:
        super().choose_ports()
        self._statistics_port = free_port()

    def command(self) -> list[str]:
        pool: dict[str, str | int | bool] = {
            "listen": self.address,
            "hash": "fnv1a_64",
            "distribution": "ketama",
            "redis": self.protocol == "redis",
            **self.options,
        }
        lines = ["pool:"]
        for key, value in pool.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            # Quoted, since a hash tag is `{}` and its YAML reader would see a mapping.
            lines.append(f"  {key}: {text if text.isalnum() else chr(34) + text + chr(34)}")
        lines += ["  servers:", *(f"   - {server}" for server in self.servers)]
        configuration = self.directory / "nutcracker.yml"
        configuration.write_text("\n".join(lines) + "\n")
        options = [
            "-c",
            str(configuration),
            "-a",
            "127.0.0.1",
            "-s",
            str(self._statistics_port or free_port()),
        ]
        # Debian's logs to a directory of its own user unless told otherwise.
        return [find_program(self.name), *options, "-o", str(self.directory / "log")]

    def answers(self, client: RawClient) -> bool:
        # It listens only once the pool is set up, and a request would already count on its backends.
        return True


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process so far, ended ones included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
