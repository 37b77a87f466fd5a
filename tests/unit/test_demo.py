"""The demo's pure parts: its plan, its configuration, what it prints, what it says when something is missing.

Real backends behind a real proxy are in ``tests/integration/test_demo.py``.
"""

import importlib
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from proxy.config import parse
from proxy.errors import BackendStartError, MissingProgramError

PROGRAMS = {"redis": "/bin/redis-server", "memcached": "/bin/memcached"}


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`proxy.demo` without the engine behind it."""
    import proxy

    placement = types.ModuleType("proxy.placement")
    placement.Placement = None  # type: ignore[attr-defined]
    for name, module in {"app": types.ModuleType("proxy.app"), "placement": placement}.items():
        monkeypatch.setitem(sys.modules, f"proxy.{name}", module)
        monkeypatch.setattr(proxy, name, module, raising=False)
    monkeypatch.delitem(sys.modules, "proxy.demo", raising=False)
    yield importlib.import_module("proxy.demo")
    sys.modules.pop("proxy.demo", None)
    if hasattr(proxy, "demo"):
        del proxy.demo


def test_missing_programs_are_named_with_the_lines_that_install_them(
    demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingProgramError) as caught:
        demo.find_programs()
    text = str(caught.value)
    assert text.startswith("redis-server and memcached not found on PATH")
    for line in (
        "apt-get install -y --no-install-recommends redis-server memcached",
        "dnf install -y redis memcached",
        "brew install redis memcached",
    ):
        assert line in text
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/x" if name == "memcached" else None)
    with pytest.raises(MissingProgramError, match=r"^redis-server not found"):
        demo.find_programs()
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}" if name != "redis-server" else None)
    assert demo.find_programs() == {"redis": "/bin/valkey-server", "memcached": "/bin/memcached"}


def test_the_plan_is_two_shards_of_two_of_each_kind_on_different_ports(demo: Any) -> None:
    children = demo.plan(PROGRAMS, "/tmp/x")
    assert [(c.protocol, c.shard, c.zone) for c in children] == [
        (protocol, shard, zone)
        for protocol in ("redis", "memcached")
        for shard in ("s1", "s2")
        for zone in ("a", "b")
    ]
    assert len({child.port for child in children}) == 8
    for child in children:
        assert child.command[0] == PROGRAMS[child.protocol]
        assert str(child.port) in child.command
        assert "127.0.0.1" in child.command


def test_its_configuration_is_sound(demo: Any) -> None:
    children = demo.plan(PROGRAMS, "/tmp/x")
    loaded = parse(demo.configuration(children, demo.Ports(1001, 1002, 1003)), "(demo)")
    assert loaded.warnings == ()
    assert loaded.config.admin.listen == "127.0.0.1:1003"
    pools = loaded.config.pools
    assert {name: pool.listen for name, pool in pools.items()} == {
        "redis": ("127.0.0.1:1001",), "memcached": ("127.0.0.1:1002",),
    }  # fmt: skip
    for name, pool in pools.items():
        assert [[b.address for b in s.backends] for s in pool.shards] == [
            [c.address for c in children if (c.protocol, c.shard) == (name, shard)] for shard in ("s1", "s2")
        ]


def test_the_welcome_has_the_real_ports_and_pids(demo: Any) -> None:
    children = [demo.Child(c.protocol, c.shard, c.zone, c.port, c.command, 4000 + n)
                for n, c in enumerate(demo.plan(PROGRAMS, "/tmp/x"))]  # fmt: skip
    addresses = {
        "pool redis": "127.0.0.1:1001",
        "pool memcached": "127.0.0.1:1002",
        "admin": "127.0.0.1:1003",
    }
    text = demo.welcome(children, addresses, "s2")
    for child in children:
        assert f"{child.address:<16} pid {child.pid}" in text
    assert "redis-cli -p 1001 set greeting hello" in text
    assert "1002" in text
    assert "status --admin 127.0.0.1:1003" in text
    assert "kill -9 4002\n" in text


def run_child(demo: Any, directory: Path, *command: str) -> None:
    child = demo.Child("redis", "s1", "a", 1, command)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(5):
                await nursery.start(demo._run_child, child, str(directory))

    trio.run(main)


def test_a_backend_that_ends_at_once_is_quoted(demo: Any, tmp_path: Path) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(BackendStartError), flatten_subgroups=True) as caught:
        run_child(demo, tmp_path, "/bin/sh", "-c", "echo no room; exit 1")
    error = caught.value
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]  # type: ignore[assignment]
    assert "ended at once:\n  no room" in str(error)


def test_a_backend_that_never_answers_is_given_up_and_ended(
    demo: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "START_SECONDS", 0.1)
    pid = tmp_path / "pid"
    with pytest.RaisesGroup(
        pytest.RaisesExc(BackendStartError, match="does not answer after"), flatten_subgroups=True
    ):
        run_child(demo, tmp_path, "/bin/sh", "-c", f"echo $$ > {pid}; exec sleep 60")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
