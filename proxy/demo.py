"""``shardproxy demo``: private backends in a temporary directory and a proxy in front of them.

Two shards of two backends for each protocol. The children live in sessions of their own, so that
Ctrl-C reaches only us and they stay up while the proxy drains; they end with the nursery that runs
them. Called by ``cli``; the proxy itself is ``app.run``, as in ``shardproxy run``.
"""

import contextlib
import os
import pwd
import shlex
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import trio

from proxy import app, log
from proxy.config import Loaded, parse
from proxy.errors import BackendStartError, MissingProgramError
from proxy.placement import Placement

SHARDS = ("s1", "s2")
ZONES = ("a", "b")
START_SECONDS = 10.0
POLL_SECONDS = 0.02
MEMCACHED_MEGABYTES = 64
EXAMPLE_KEY = "greeting"

INSTALL = """\
{programs} not found on PATH; the demo runs private copies. Install:
  Debian, Ubuntu   sudo apt-get install -y --no-install-recommends redis-server memcached
  Fedora, RHEL     sudo dnf install -y redis memcached
  Alpine           sudo apk add redis memcached
  macOS            brew install redis memcached"""

_log = log.Log("demo")


class Ports(NamedTuple):
    """Where the demo listens, on 127.0.0.1; 0 for any free port."""

    redis: int = 6380
    memcached: int = 11311
    admin: int = 9180


@dataclass(frozen=True, slots=True)
class Child:
    """One private backend. ``command`` starts it again in a shell after it was killed."""

    protocol: str
    shard: str
    zone: str
    port: int
    command: tuple[str, ...]
    pid: int = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def __str__(self) -> str:
        return f"{self.protocol} {self.shard} {self.address} (pid {self.pid})"


def run_demo(ports: Ports) -> int:
    """Runs until Ctrl-C or SIGTERM; returns the exit code.

    Raises:
        MissingProgramError: redis-server or memcached is not installed.
        ListenError: one of the ports is taken.
        BackendStartError: a backend did not come up.
    """
    programs = find_programs()
    log.setup("info", "text")
    return app.run_to_exit_code(partial(_demo, programs, ports))


def find_programs() -> dict[str, str]:
    """Paths of redis-server (or valkey-server) and memcached.

    Raises:
        MissingProgramError: with the lines that install them.
    """
    found = {
        "redis": shutil.which("redis-server") or shutil.which("valkey-server"),
        "memcached": shutil.which("memcached"),
    }
    names = {"redis": "redis-server", "memcached": "memcached"}
    missing = [names[kind] for kind, path in found.items() if path is None]
    if missing:
        raise MissingProgramError(INSTALL.format(programs=" and ".join(missing)))
    return {kind: path for kind, path in found.items() if path is not None}


def plan(programs: dict[str, str], directory: str) -> list[Child]:
    """The children to start, on ports that are free now."""
    places = [(protocol, s, z) for protocol in ("redis", "memcached") for s in SHARDS for z in ZONES]
    return [
        Child(protocol, shard, zone, port, _command(programs[protocol], protocol, port, directory))
        for (protocol, shard, zone), port in zip(places, _free_ports(len(places)), strict=True)
    ]


def configuration(children: Sequence[Child], ports: Ports) -> str:
    """The YAML that ``shardproxy run`` would take for the same thing."""
    lines = [f'admin: {{listen: "127.0.0.1:{ports.admin}"}}', "pools:"]
    for protocol, port in (("redis", ports.redis), ("memcached", ports.memcached)):
        lines += [
            f"  {protocol}:",
            f"    protocol: {protocol}",
            f'    listen: ["127.0.0.1:{port}"]',
            "    shards:",
        ]
        for shard in SHARDS:
            lines += [f"      - name: {shard}", "        backends:"]
            lines += [
                f'          - {{address: "{child.address}", zone: {child.zone}}}'
                for child in children
                if (child.protocol, child.shard) == (protocol, shard)
            ]
    return "\n".join(lines) + "\n"


async def _demo(programs: dict[str, str], ports: Ports) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_give_up_on_signal, nursery.cancel_scope)
        with tempfile.TemporaryDirectory(prefix="shardproxy-demo-") as directory:
            children = plan(programs, directory)
            loaded = parse(configuration(children, ports), "(demo)")
            # Bound first: a taken port must not cost the user the time of starting backends.
            listeners = app.bind_listeners(loaded.config)
            try:
                await _run_all(loaded, listeners, children, directory)
            finally:
                listeners.close()
        nursery.cancel_scope.cancel()


async def _run_all(
    loaded: Loaded, listeners: "app.Listeners", children: Sequence[Child], directory: str
) -> None:
    async with trio.open_nursery() as backends:
        started = [await backends.start(_run_child, child, directory) for child in children]
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(app.run, loaded, listeners, hangup_stops=True))
            addresses = {listener.owner: listener.address for listener in listeners}
            pools = loaded.config.pools
            shard = Placement(pools["redis"], pools).place(EXAMPLE_KEY.encode()).shard.name
            print(welcome(started, addresses, shard), flush=True)
        backends.cancel_scope.cancel()


async def _give_up_on_signal(
    everything: trio.CancelScope, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    # Without this a SIGTERM while backends start would end us and leave them. As soon as the proxy runs,
    # its own receiver, inside this one, gets the signals.
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for _ in signals:
            everything.cancel()


async def _run_child(
    child: Child, directory: str, *, task_status: trio.TaskStatus[Child] = trio.TASK_STATUS_IGNORED
) -> None:
    output = Path(directory, f"{child.protocol}-{child.port}.log")
    with open(output, "wb") as file:  # noqa: ASYNC230  (a new file in a private directory)
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                partial(
                    trio.run_process,
                    child.command,
                    stdout=file,
                    stderr=file,
                    check=False,
                    start_new_session=True,
                )
            )
            await _wait_until_ready(child, process, output)
            running = Child(child.protocol, child.shard, child.zone, child.port, child.command, process.pid)
            task_status.started(running)
            await process.wait()
    _log.info(
        "a backend has ended",
        backend=running.address, shard=running.shard, pid=running.pid, code=process.returncode,
        again=shlex.join(child.command),
    )  # fmt: skip


async def _wait_until_ready(child: Child, process: trio.Process, output: Path) -> None:
    with trio.move_on_after(START_SECONDS):
        while process.poll() is None:
            if await _answers(child):
                return
            await trio.sleep(POLL_SECONDS)
    printed = (await trio.Path(output).read_text(errors="replace")).strip().splitlines()[-5:]
    what = (
        "ended at once" if process.poll() is not None else f"does not answer after {START_SECONDS:g} seconds"
    )
    said = "\n  ".join(["", *printed]) if printed else " (it printed nothing)"
    raise BackendStartError(f"{shlex.join(child.command)} {what}:{said}")


async def _answers(child: Child) -> bool:
    question, answer = (b"PING\r\n", b"+PONG") if child.protocol == "redis" else (b"version\r\n", b"VERSION")
    with trio.move_on_after(1), contextlib.suppress(OSError):
        async with await trio.open_tcp_stream("127.0.0.1", child.port) as stream:
            await stream.send_all(question)
            return (await stream.receive_some(64)).startswith(answer)
    return False


def _command(program: str, protocol: str, port: int, directory: str) -> tuple[str, ...]:
    if protocol == "redis":
        return (
            program, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory,
            "--save", "", "--appendonly", "no", "--loglevel", "warning",
        )  # fmt: skip
    # memcached refuses to run as root unless told to; anybody else cannot change users anyway.
    user = ("-u", pwd.getpwuid(0).pw_name) if os.geteuid() == 0 else ()
    return (program, "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-m", str(MEMCACHED_MEGABYTES), *user)


def _free_ports(count: int) -> list[int]:
    # All held at once, so that the kernel gives different ones. Somebody may take one before the child
    # does; the child then says so and the demo ends with its words.
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


def welcome(children: Sequence[Child], addresses: dict[str, str], shard: str) -> str:
    """What to try, with this demo's addresses and process ids.

    Args:
        children: as they run.
        addresses: by owner: ``"pool redis"``, ``"pool memcached"``, ``"admin"``.
        shard: the one that owns `EXAMPLE_KEY`; its first backend is the one to kill.
    """
    redis, memcached, admin = (addresses[owner] for owner in ("pool redis", "pool memcached", "admin"))
    redis_port, memcached_port = redis.rpartition(":")[2], memcached.rpartition(":")[2]
    rows = [f"    {c.protocol:<10} {c.shard}  {c.address:<16} pid {c.pid}" for c in children]
    backends = "\n".join(rows)
    victim = next(child for child in children if (child.protocol, child.shard) == ("redis", shard))
    speak = "'set k 0 0 5\\r\\nhello\\r\\nget k\\r\\nquit\\r\\n'"
    if shutil.which("nc"):
        memcached_line = f"printf {speak} | nc 127.0.0.1 {memcached_port}"
    else:  # not on every machine; bash can do it alone
        memcached_line = f'bash -c "exec 3<>/dev/tcp/127.0.0.1/{memcached_port}; printf {speak} >&3; cat <&3"'
    command = sys.argv[0] if Path(sys.argv[0]).name == "shardproxy" else f"{sys.executable} -m proxy"
    return f"""
  Redis      {redis}
  Memcached  {memcached}
  Admin      http://{admin}/

  Backends
{backends}

  Try
    redis-cli -p {redis_port} set {EXAMPLE_KEY} hello
    redis-cli -p {redis_port} get {EXAMPLE_KEY}
    {memcached_line}
    {command} status --admin {admin}
    curl -s http://{admin}/metrics | grep ^shardproxy_

  Lose a backend (the primary of {EXAMPLE_KEY}'s shard, {victim.shard}); reads and writes go on
    kill -9 {victim.pid}
    redis-cli -p {redis_port} get {EXAMPLE_KEY}
    {command} status --admin {admin}

  Bring it back, empty: it is filled from the other one, and then serves. It is yours; the last line ends it
    {shlex.join(victim.command)} &
    redis-cli -p {victim.port} get {EXAMPLE_KEY}
    redis-cli -p {victim.port} shutdown nosave

  Ctrl-C ends the proxy and its backends.
"""
