"""Passwords: where they come from, and a wrapper that never shows them.

A configuration names a file or an environment variable, never the password itself, so that the
configuration can be printed, diffed and kept in version control.
"""

import hmac
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

# Redis takes passwords of any length; a file beyond this is a mistake (a whole config, a device).
SECRET_BYTES_MAX = 4096


@final
class Secret:
    """Bytes that do not show in ``repr``, ``str``, tracebacks of ours, logs or pickles."""

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The bytes; only for handing them to the engine or to a backend."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __deepcopy__(self, memo: dict[int, object]) -> "Secret":
        return self  # immutable; and pydantic copies defaults

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a Secret is not written anywhere")


def _read_file(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(SECRET_BYTES_MAX + 1)


@dataclass(frozen=True, slots=True)
class Sources:
    """Where secrets are read from; tests pass their own."""

    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    read_file: Callable[[str], bytes] = field(default=_read_file, repr=False)

    def from_file(self, path: str) -> Secret:
        """The file's contents without one final newline.

        Raises:
            ValueError: it cannot be read, is empty, or is too large. Never quotes the contents.
        """
        try:
            value = self.read_file(path)
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror or error}") from None
        if len(value) > SECRET_BYTES_MAX:
            raise ValueError(f"expected a password of at most {SECRET_BYTES_MAX} bytes in {path}")
        value = value.removesuffix(b"\n").removesuffix(b"\r")
        if not value:
            raise ValueError(f"{path} is empty; expected a password")
        return Secret(value)

    def from_environment(self, name: str) -> Secret:
        """The variable's value.

        Raises:
            ValueError: it is not set or empty.
        """
        value = self.environ.get(name, "")
        if not value:
            raise ValueError(f"the environment variable {name} is not set; expected a password in it")
        return Secret(os.fsencode(value))
