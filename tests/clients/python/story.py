"""What all programs of this directory share: their arguments, their parts, and the world outside.

A program is run as ``PROGRAM PORT PART PREFIX [OPTION...]``. It runs one part against the server on
127.0.0.1:PORT with keys that begin with PREFIX, and fails with a traceback. The programs in other
languages keep to the same.

While a part runs, the test outside may kill a server. They talk in lines: the part says "going" on its
standard output; whatever line it then gets on its standard input it answers, some requests later, with
"after LINE"; at "end" it stops and checks what it has written.
"""

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

ROUND = 20
"""Requests that must go well after an event before it is answered."""

KEYS = 200
"""Keys that are written in turn meanwhile; more than that says nothing new."""


class Story:
    """One run of one part.

    Attributes:
        port: of the server, on 127.0.0.1.
        prefix: of every key; no other run has it.
        options: what else is on the command line.
    """

    def __init__(self, port: int, prefix: str, options: list[str]) -> None:
        self.port = port
        self.prefix = prefix
        self.options = options
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def key(self, name: object) -> str:
        """A key of this run's own."""
        return f"{self.prefix}:{name}"

    def tagged(self, name: object) -> str:
        """The same, on one shard with all others of its kind."""
        return f"{{{self.prefix}}}:{name}"

    def begin(self) -> None:
        """Says "going", and listens from now on."""
        threading.Thread(target=self._listen, daemon=True).start()
        print("going", flush=True)

    def heard(self) -> str | None:
        """The next line from outside, if there is one."""
        try:
            return self._lines.get_nowait()
        except queue.Empty:
            return None

    def after(self, line: str) -> None:
        """Says that requests went well after that line."""
        print("after", line, flush=True)

    def go_on(self, write: Callable[[str, str], Any], read: Callable[[str], str | None]) -> None:
        """Writes one value after another until "end"; then every key must hold what was written last.

        ``write`` raises if the write was not acknowledged. None may fail: that is what is shown here.
        """
        written: dict[str, str] = {}
        number = 0

        def step() -> None:
            nonlocal number
            key, value = self.key(number % KEYS), str(number)
            write(key, value)
            written[key] = value
            other = self.key(number * 7 % KEYS)
            found = read(other)
            assert found == written.get(other), (other, found, written.get(other))
            number += 1

        for _ in range(ROUND):
            step()
        self.begin()
        while (line := self.heard()) != "end":
            step()
            if line:
                for _ in range(ROUND):
                    step()
                self.after(line)
        for key, value in written.items():
            assert read(key) == value, (key, read(key), value)

    def come_back(self, write: Callable[[str, str], Any], read: Callable[[str], str | None]) -> None:
        """The proxy is replaced meanwhile: requests may fail until then, and none may afterwards."""
        write(self.key("first"), "1")
        self.begin()
        number = 0
        while (line := self.heard()) != "end":
            number += 1
            try:
                write(self.key(number % KEYS), str(number))
            except Exception:
                time.sleep(0.02)  # as an application would, not to spin on a refused connection
            if line:
                eventually(lambda: (write(self.key("back"), "1"), True)[1])
                for n in range(ROUND):
                    write(self.key(f"back{n}"), str(n))
                    assert read(self.key(f"back{n}")) == str(n)
                self.after(line)
        assert read(self.key("first")) == "1"

    def _listen(self) -> None:
        for line in sys.stdin:
            self._lines.put(line.strip())
        self._lines.put("end")


def eventually(condition: Callable[[], object], within: float = 20.0) -> None:
    """Waits until ``condition()`` is true; an exception is a no."""
    limit = time.monotonic() + within
    while True:
        try:
            if condition():
                return
            failure = None
        except Exception as exception:
            failure = exception
        if time.monotonic() > limit:
            raise AssertionError(f"not within {within} s: {failure!r}") from failure
        time.sleep(0.01)


def raises(
    kind: type[BaseException] | tuple[type[BaseException], ...], words: str, do: Callable[[], object]
) -> None:
    """``do()`` must raise that, with these words in its text."""
    try:
        value: object = do()
    except kind as exception:
        value = exception
    assert isinstance(value, kind) and words in str(value), f"{value!r} does not say {words!r}"  # noqa: PT018


def run(parts: Mapping[str, Callable[[Story], Any]]) -> None:
    """Runs the part that the command line names; without arguments prints the parts there are."""
    if len(sys.argv) == 1:
        print(*parts)
        return
    port, part, prefix, *options = sys.argv[1:]
    parts[part](Story(int(port), prefix, options))
