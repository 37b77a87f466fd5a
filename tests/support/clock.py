"""The wall clock of one process, which can be made to jump while the process runs.

Called by `chaos.run` and by tests of clocks. The process is started with a library of ours in front of
libc's (clock_jump.c), built once per run with the C compiler that Rust needs anyway.
"""

from __future__ import annotations

import functools
import mmap
import shutil
import struct
import subprocess
import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("clock_jump.c")
LAYOUT = struct.Struct("=qq")
"""As in the C source: offset in nanoseconds, readings of a wrong clock."""
PATH_VARIABLE = "CLOCK_JUMP_FILE"


class Clock:
    """The clock of a process, and of those that it starts and those that follow it with the same clock."""

    def __init__(self) -> None:
        self._library = _library()
        with tempfile.NamedTemporaryFile(prefix="shardproxy-clock-", delete=False) as file:
            file.write(bytes(LAYOUT.size))
            file.flush()
            self._memory = mmap.mmap(file.fileno(), LAYOUT.size)
            self._path = Path(file.name)
        self._remove = weakref.finalize(self, self._path.unlink, missing_ok=True)

    @property
    def environment(self) -> Mapping[str, str]:
        """What the process must be started with; see `support.process.Process.environment`."""
        return {"LD_PRELOAD": str(self._library), PATH_VARIABLE: str(self._path)}

    @property
    def readings(self) -> int:
        """How often the process has read a clock that was wrong."""
        return int(LAYOUT.unpack(self._memory[:])[1])

    def jump(self, seconds: float) -> None:
        """The clock is that far ahead of the true one from now on; 0 puts it right."""
        self._memory[:8] = struct.pack("=q", int(seconds * 1e9))

    def close(self) -> None:
        """The processes keep the clock as it is."""
        self._remove()


def why_not() -> str:
    """Why clocks cannot be made to jump here; empty if they can."""
    return "" if shutil.which("cc") else "clock jumps need a C compiler, as `cc`"


@functools.cache
def _library() -> Path:
    directory = tempfile.TemporaryDirectory(prefix="shardproxy-clock-")
    _kept.append(directory)  # until the interpreter ends
    library = Path(directory.name) / "clock_jump.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(SOURCE)], check=True)
    return library


_kept: list[tempfile.TemporaryDirectory[str]] = []
