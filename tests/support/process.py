"""A child process on ports of its own: started, waited for, killed, stopped, restarted.

The base of the servers in `support.servers` and of `support.proxy_process`; knows no protocol.
All calls are plain and short, so that pytest functions and trio tasks use them alike.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from support.eventually import PATIENCE, eventually

START_SECONDS = 30.0
"""A proxy needs more than a second of CPU to start, of which a machine that is busy gives it a tenth."""
EXIT_SECONDS = 10.0
START_ATTEMPTS = 8
"""Bind failures in a row before giving up; each draws new ports."""

LOG_TAIL_CHARACTERS = 8_000

BIND_FAILURES = ("in use", "Failed listening on port")
"""What the servers, and we, write when a port was taken."""

started: list["Process"] = []
"""Every process started since the list was last cleared; `conftest` prints their logs when a test fails."""


class StartFailed(RuntimeError):
    """The process ended, or was not ready in time. The message has its log."""


class Process:
    """One child process in a temporary directory, on the ports it was given or on free ones.

    Used as a context manager, or with `start` and `close`. Subclasses say how to run it and when it is
    ready; a port that was taken in the meantime is replaced and the start tried again, except on
    `restart`, where keeping the port is the point.
    """

    name = "process"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"shardproxy-{self.name}-"))
        self._child: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        self._ports_fixed = False
        self.environment: Mapping[str, str] = {}
        """Variables over our own, for its next start."""
        self.inside: Callable[[], AbstractContextManager[object]] = nullcontext
        """Enters the network that it is started in and asked in: `Namespace.inside`, or the test's own."""

    def __repr__(self) -> str:
        state = f"pid {self._child.pid}" if self._child and self.is_running() else "not running"
        return f"<{type(self).__name__} {state}>"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # What subclasses say.

    def choose_ports(self) -> None:
        """Draws free ports for those the caller did not fix; called before each attempt to start."""
        raise NotImplementedError

    def command(self) -> list[str]:
        """The program and its arguments; may write files to ``directory``."""
        raise NotImplementedError

    def is_ready(self) -> bool:
        """True once requests are answered. An `Exception` counts as no."""
        raise NotImplementedError

    # Life.

    def start(self) -> Self:
        """Starts it and returns once it is ready.

        Raises:
            StartFailed: it ended for another reason than a taken port, or took longer than `START_SECONDS`.
        """
        for _ in range(START_ATTEMPTS):
            if not self._ports_fixed:
                self.choose_ports()
            self._spawn()
            try:
                self._wait_ready()
            except StartFailed:
                taken = any(reason in self.log_text() for reason in BIND_FAILURES)
                if taken and not self.is_running() and not self._ports_fixed:
                    continue
                self.close()
                raise
            self._ports_fixed = True  # later lives are on the ports its users know
            return self
        self.close()
        raise StartFailed(f"{self.name}: no free port in {START_ATTEMPTS} attempts\n{self.log_text()}")

    def restart(self) -> Self:
        """Starts it again on the same ports, with nothing of its earlier life but its log.

        A process that still runs gets `kill9` first.
        """
        if self.is_running():
            self.kill9()
        return self.start()

    def kill9(self) -> None:
        """Kills it as a power cut does and waits until it is gone."""
        self._signal(signal.SIGKILL)
        self._wait_exit()

    def terminate(self, within: float = EXIT_SECONDS) -> int:
        """Asks it to end, waits, and returns its exit status."""
        self._signal(signal.SIGTERM)
        return self._wait_exit(within)

    def stop(self) -> None:
        """Freezes it (SIGSTOP): connections stay open and nothing is answered, until `cont`.

        Returns when every thread is stopped, so that the next request is certain to wait.
        """
        self._signal(signal.SIGSTOP)
        eventually(lambda: self._states() == {"T"}, what=f"{self.name} is stopped")

    def cont(self) -> None:
        """Lets a stopped process go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it whatever its state is, and removes its directory. May be called twice."""
        if self._child is not None and self._child.poll() is None:
            self.cont()  # a stopped process is killed all the same, but its log would end unflushed
            self.kill9()
        if self._log is not None:
            self._tail = self.log_text()
            self._log.close()
            self._log = None
        shutil.rmtree(self.directory, ignore_errors=True)

    # What can be asked.

    @property
    def pid(self) -> int:
        """The process id. Raises `RuntimeError` if it was never started."""
        if self._child is None:
            raise RuntimeError(f"{self.name} was not started")
        return self._child.pid

    def is_running(self) -> bool:
        """True while the process exists, stopped or not."""
        return self._child is not None and self._child.poll() is None

    def log_text(self) -> str:
        """The end of what it wrote to its standard output and error, over all its lives."""
        if self._log is None:
            return getattr(self, "_tail", "")
        return (self.directory / "log").read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]

    def resident_bytes(self) -> int:
        """Its resident memory now, as the kernel counts it."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError(f"{self.name} has ended")

    # Inside.

    def _spawn(self) -> None:
        if self._log is None:
            self._log = (self.directory / "log").open("ab")
        with self.inside():
            self._child = subprocess.Popen(
                self.command(),
                cwd=self.directory,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                # Ctrl-C in the terminal is for pytest, which then closes what it started.
                start_new_session=True,
            )
        started.append(self)

    def _wait_ready(self) -> None:
        def ready() -> bool:
            return not self.is_running() or self.is_ready()

        try:
            eventually(ready, within=START_SECONDS, what=f"{self!r} is ready")
        except AssertionError as slow:
            raise StartFailed(f"{slow}\n{self.log_text()}") from slow
        if not self.is_running():
            status = self._child.poll() if self._child else None
            raise StartFailed(f"{self.name} ended with status {status} while starting\n{self.log_text()}")

    def _wait_exit(self, within: float = EXIT_SECONDS) -> int:
        assert self._child is not None
        try:
            return self._child.wait(within * PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} has not ended within {within} s\n{self.log_text()}") from None

    def _signal(self, number: signal.Signals) -> None:
        if self._child is None or self._child.poll() is not None:
            raise RuntimeError(f"{self.name} does not run, it cannot get {number.name}")
        self._child.send_signal(number)

    def _states(self) -> set[str]:
        """The scheduler's letter for each thread."""
        letters = set()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            # The name before it is in parentheses and may hold spaces.
            letters.add((task / "stat").read_text().rpartition(") ")[2].split()[0])
        return letters
