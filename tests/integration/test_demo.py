"""``shardproxy demo``: one command; kill a backend and nothing is lost; all gone on exit."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from support.eventually import eventually
from support.ports import free_port
from support.raw import RawClient

from proxy.admin.client import fetch_status

COMMAND = Path(sys.executable).with_name("shardproxy")


class Demo:
    """A running demo and what it printed."""

    def __init__(self, directory: Path) -> None:
        self.redis_port, self.memcached_port, self.admin_port = free_port(), free_port(), free_port()
        self.directory = directory
        self.output = directory / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [str(COMMAND), "demo"],
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "TMPDIR": str(directory),
                    "REDIS_PORT": str(self.redis_port),
                    "MEMCACHED_PORT": str(self.memcached_port),
                    "ADMIN_PORT": str(self.admin_port),
                },
            )

    def text(self) -> str:
        return self.output.read_text()

    def wait_ready(self) -> None:
        def printed() -> bool:
            assert self.process.poll() is None, self.text()
            return "Ctrl-C ends" in self.text()

        eventually(printed, within=15, what="the demo says what to try")

    def pids(self) -> list[int]:
        return [int(pid) for pid in re.findall(r"^    (?:redis|memcached) .* pid (\d+)$", self.text(), re.M)]

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=20)


def status(address: str) -> str:
    shown = subprocess.run(
        [COMMAND, "status", "--admin", address], capture_output=True, text=True, check=True
    )
    return shown.stdout


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    started = Demo(tmp_path)
    yield started
    if started.process.poll() is None:
        started.end(signal.SIGTERM)


def test_it_serves_survives_a_killed_backend_and_leaves_nothing(demo: Demo) -> None:
    demo.wait_ready()
    pids = demo.pids()
    assert len(pids) == 8
    with redis.Redis(port=demo.redis_port, decode_responses=True) as client:
        for number in range(50):
            assert client.set(f"key{number}", number)
        with RawClient(demo.memcached_port) as cache:
            assert cache.ask(b"set k 0 0 5\r\nhello\r\n") == b"STORED\r\n"
        victim = re.search(r"kill -9 (\d+)", demo.text())
        assert victim is not None
        subprocess.run(["kill", "-9", victim[1]], check=True)
        assert [client.get(f"key{number}") for number in range(50)] == [str(n) for n in range(50)]
        for number in range(50):
            assert client.set(f"key{number}", -number)
    address = f"127.0.0.1:{demo.admin_port}"
    eventually(
        lambda: "down" in fetch_status(address)[0], within=10, what="the status shows the killed backend"
    )
    assert "7 in_sync, 1 down" in status(address)
    again = re.search(r"^    (\S*redis-server .*--port (\d+).*) &$", demo.text(), re.M)
    assert again is not None
    with subprocess.Popen(shlex.split(again[1])) as returned:
        try:
            eventually(lambda: "8 in_sync" in status(address), within=30, what="it has been filled")
            with redis.Redis(port=int(again[2])) as server:
                assert server.dbsize() > 1, "keys, and not the proxy's record alone"
        finally:
            returned.terminate()
    assert demo.end(signal.SIGINT) == 0
    assert not any(is_running(pid) for pid in pids)
    assert list(demo.directory.glob("shardproxy-demo-*")) == []


def test_a_signal_while_it_starts_leaves_nothing_either(demo: Demo) -> None:
    # From the directory on, whatever it started is its to end; before that there is nothing.
    eventually(
        lambda: list(demo.directory.glob("shardproxy-demo-*/*.log")), within=10, what="a backend starts"
    )
    assert demo.end(signal.SIGTERM) == 0
    assert list(demo.directory.glob("shardproxy-demo-*")) == []
    children = [p for p in Path("/proc").glob("[0-9]*/cmdline") if is_child_of(demo, p)]
    assert children == []


def is_child_of(demo: Demo, cmdline: Path) -> bool:
    try:
        return str(demo.directory).encode() in cmdline.read_bytes()
    except OSError:
        return False


def test_a_taken_port_is_named_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "TMPDIR": str(tmp_path),
            "REDIS_PORT": str(port),
        }
        environment |= {"MEMCACHED_PORT": str(free_port()), "ADMIN_PORT": str(free_port())}
        done = subprocess.run([COMMAND, "demo"], capture_output=True, text=True, env=environment, timeout=20)
    assert done.returncode == 3
    assert f"pool redis cannot listen on 127.0.0.1:{port}: the address is in use" in done.stderr
    assert list(tmp_path.iterdir()) == []
