"""Client programs in several languages: what there is, and how one is run.

Called by tests/clients/test_programs.py. The programs are in the directories beside it; README.md there
says what they have in common. Knows nothing of what they test.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from support.eventually import PATIENCE

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "tests" / "clients"
BUILT = ROOT / ".cache" / "clients"
"""Where `.ci/clients` puts what it installs and builds."""

PART_SECONDS = 60.0
"""For one part of a program; some take seconds to begin on a busy machine."""


@dataclass(frozen=True)
class Program:
    """A client program.

    Attributes:
        name: what tests call it.
        command: the words before ``PORT PART PREFIX``.
        parts: what it can be asked to do.
        options: the words behind them.
        needs: what must be there to run it; `.ci/clients` makes it where it can.
        quick: True to run it in `make test` too.
    """

    name: str
    command: tuple[str, ...]
    parts: tuple[str, ...]
    options: tuple[str, ...] = ()
    needs: tuple[Path | str, ...] = ()
    quick: bool = False

    def missing(self) -> str | None:
        """The first thing that it needs and that is not here."""
        for need in self.needs:
            there = need.exists() if isinstance(need, Path) else shutil.which(need) is not None
            if not there:
                name = need.relative_to(ROOT) if isinstance(need, Path) else need
                return f"{name} is not there: `make clients` sets it up where it can"
        return None

    def start(self, port: int, part: str, prefix: str) -> "Run":
        """Starts one part against the server on that port of 127.0.0.1."""
        return Run([*self.command, str(port), part, prefix, *self.options])


class Run:
    """A started program. Used as a context manager: it never outlives the block."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._started = time.monotonic()
        self._lines: list[str] = []
        self._said = threading.Condition()
        environment = {**os.environ, "NODE_PATH": str(BUILT / "node" / "node_modules")}
        self._child = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
            errors="replace",
        )
        assert self._child.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self._child.stdout,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        # With its own children: one that is left behind would hold its output open, and the reader with it.
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._reader.join()
        for stream in (self._child.stdin, self._child.stdout):
            assert stream is not None
            stream.close()

    def tell(self, line: str) -> None:
        """Writes it a line."""
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(line + "\n")
            self._child.stdin.flush()
        except BrokenPipeError:
            self._fail("has ended")

    def wait_line(self, line: str) -> None:
        """Waits until it has said that line. Raises `AssertionError` with all it wrote if it does not."""
        with self._said:
            self._said.wait_for(lambda: line in self._lines or self._child.poll() is not None, self._left())
            if line in self._lines:
                return
        self._fail(f"has not said {line!r}")

    def wait_end(self) -> None:
        """Waits for its end, which must be a good one."""
        try:
            status = self._child.wait(self._left())
        except subprocess.TimeoutExpired:
            self._fail(f"has not ended within {PART_SECONDS * PATIENCE} s")
        if status != 0:
            self._fail(f"ended with status {status}")

    def _left(self) -> float:
        return max(0.0, self._started + PART_SECONDS * PATIENCE - time.monotonic())

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            with self._said:
                self._lines.append(line.rstrip("\n"))
                self._said.notify_all()
        self._child.wait()
        with self._said:
            self._said.notify_all()

    def _fail(self, what: str) -> None:
        if self._child.poll() is not None:
            self._reader.join()  # what it wrote last says why
        words = " ".join(self._command)
        raise AssertionError("\n".join([f"{words}\n{what}; it wrote:", *self._lines[-60:]]))


def python(name: str, script: str, *options: str, parts: Sequence[str], own: bool = False) -> Program:
    """A Python program; ``own`` to run it with the project's own packages, in `make test` too."""
    interpreter = Path(sys.executable) if own else BUILT / "python" / "bin" / "python"
    command = (str(interpreter), "-W", "error::SyntaxWarning", str(SOURCES / "python" / script))
    return Program(name, command, tuple(parts), options, (interpreter,), own)


def node(name: str, script: str, *options: str, parts: Sequence[str]) -> Program:
    """A program of Node.js."""
    needs = ("node", BUILT / "node" / "node_modules")
    return Program(name, ("node", str(SOURCES / "node" / script)), tuple(parts), options, needs)


def go(name: str, *options: str, parts: Sequence[str]) -> Program:
    """A client in the one Go program."""
    binary = BUILT / "go" / "clients"
    return Program(name, (str(binary), name), tuple(parts), options, (binary,))


def java(name: str, client: str, *options: str, parts: Sequence[str]) -> Program:
    """A client in the one Java program. No run is long enough to be worth the better compiler."""
    built = BUILT / "java"
    path = f"{built / 'classes'}:{built / 'libraries'}/*"
    command = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", path, "Clients", client)
    return Program(name, command, tuple(parts), options, ("java", built / "classes"))


def php(name: str, script: str, *options: str, parts: Sequence[str]) -> Program:
    """A program of PHP; its libraries are packages of the distribution."""
    command = ("php", "-d", "display_errors=stderr", str(SOURCES / "php" / script))
    return Program(name, command, tuple(parts), options, ("php", BUILT / "php.stamp"))


def ruby(name: str, script: str, *options: str, parts: Sequence[str]) -> Program:
    """A program of Ruby; its libraries are packages of the distribution."""
    command = ("ruby", str(SOURCES / "ruby" / script))
    return Program(name, command, tuple(parts), options, ("ruby", BUILT / "ruby.stamp"))
