"""The exception tree: one class per thing an operator can act on.

Raised anywhere, caught in ``cli``, which prints ``str(error)`` and exits with ``error.exit_code``.
Everything else that escapes is a bug and keeps its traceback. This module imports nothing of ours.
"""

from dataclasses import dataclass


class ShardproxyError(Exception):
    """Base of all errors that are somebody's to fix; ``exit_code`` is what the process ends with."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One thing wrong with a configuration file.

    Args:
        file: path as given by the user.
        line: 1-based; 0 when the problem has no place in the file (the file cannot be read).
        key: dotted path, list positions in brackets: ``pools.p.shards[0].weight``; ``""`` for the file.
        expected: what would have been right, and what stood there instead.
        nearest: the valid key or value that was probably meant, or None.
    """

    file: str
    line: int
    key: str
    expected: str
    nearest: str | None = None

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        hint = f"; did you mean {self.nearest!r}?" if self.nearest else ""
        return f"{place}: {key}{self.expected}{hint}"


class ConfigError(ShardproxyError):
    """The configuration cannot be used; ``problems`` holds everything that is wrong, by line.

    ``file``, ``line``, ``key``, ``expected`` and ``nearest`` are those of the first problem.
    """

    exit_code = 2

    def __init__(self, problems: tuple[ConfigProblem, ...]) -> None:
        if not problems:
            raise ValueError("a ConfigError needs at least one problem")
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.key)))
        first = self.problems[0]
        self.file, self.line, self.key = first.file, first.line, first.key
        self.expected, self.nearest = first.expected, first.nearest
        super().__init__("\n".join(map(str, self.problems)))


class ListenError(ShardproxyError):
    """An address cannot be listened on: taken, not ours, or not permitted.

    Args:
        owner: who wanted it: ``"pool sessions"`` or ``"admin"``.
        address: as configured.
        reason: what the operating system said.
    """

    exit_code = 3

    def __init__(self, owner: str, address: str, reason: str) -> None:
        self.owner, self.address, self.reason = owner, address, reason
        super().__init__(f"{owner} cannot listen on {address}: {reason}")


class EngineError(ShardproxyError):
    """The engine refused a configuration or a table, or could not start its threads."""

    exit_code = 4


class MissingProgramError(ShardproxyError):
    """A program that has to be installed first is not on PATH; the text says how to get it."""

    exit_code = 5


class BackendStartError(ShardproxyError):
    """A private backend of the demo did not come up; the text ends with what it printed."""

    exit_code = 5


class AdminUnreachableError(ShardproxyError):
    """Nobody answered, or somebody else did, at the admin address that ``status`` asked."""
