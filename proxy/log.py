"""Logging: names, levels and the one format of a line.

Used by everything but ``control``, which decides and never logs. Lines go to standard error:

    2026-11-20T12:00:00.123Z info controller backend is down pool=p shard=s1 reason=refused

or, with ``log: {format: json}``, one JSON object with the same parts. The reader of a level:

========  ===========================================================================
error     a request or a shard was hurt and it did not heal: somebody has to act
warning   something went wrong and healed, or will if nobody acts
info      lifecycle and state changes, one line per transition with its reason and epoch
debug     the rest
========  ===========================================================================

Nothing is logged per request. Never log a key, a value, a client address or a `Secret`.
"""

import json
import logging
import sys
import time
from typing import Final, TextIO

ROOT: Final = "shardproxy"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# Values made of these need no quotes; everything else is quoted and escaped as in JSON.
_PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/@%+-[],*")


class Log:
    """A named logger whose lines carry fields: ``log.info("backend is down", shard="s1")``."""

    def __init__(self, name: str) -> None:
        """``name`` is the part of the program: ``controller``, ``prober``, ``admin``, ..."""
        self._logger = logging.getLogger(f"{ROOT}.{name}")

    def __repr__(self) -> str:
        return f"<Log {self._logger.name}>"

    def debug(self, message: str, /, **fields: object) -> None:
        self._write(logging.DEBUG, message, fields)

    def info(self, message: str, /, **fields: object) -> None:
        self._write(logging.INFO, message, fields)

    def warning(self, message: str, /, **fields: object) -> None:
        self._write(logging.WARNING, message, fields)

    def error(self, message: str, /, **fields: object) -> None:
        self._write(logging.ERROR, message, fields)

    def exception(self, message: str, /, **fields: object) -> None:
        """`error` with the traceback of the exception being handled, still in one line."""
        self._write(logging.ERROR, message, fields, exc_info=True)

    def _write(self, level: int, message: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            # "%s" so that a percent sign in a message stays one.
            self._logger.log(level, "%s", message, extra={"fields": fields}, exc_info=exc_info)


def setup(level: str, format: str, stream: TextIO | None = None) -> None:
    """Sends our lines, and warnings of the libraries, to ``stream`` (standard error) in one format.

    Args:
        level: a key of `LEVELS`; libraries never get below ``warning``.
        format: ``"text"`` or ``"json"``.
        stream: for tests.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(ROOT).setLevel(LEVELS[level])


def _parts(record: logging.LogRecord) -> dict[str, object]:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    parts: dict[str, object] = {
        "time": f"{stamp}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name.removeprefix(f"{ROOT}."),
        "message": record.getMessage(),
    }
    parts |= getattr(record, "fields", {})
    if record.exc_info:
        parts["exception"] = logging.Formatter().formatException(record.exc_info)
    return parts


class TextFormatter(logging.Formatter):
    """``time level logger message key=value ...``, always one line."""

    def format(self, record: logging.LogRecord) -> str:
        parts = _parts(record)
        head = [str(parts.pop(name)) for name in ("time", "level", "logger", "message")]
        # A message is ours, but may quote what a peer sent: no line breaks or escapes get through.
        head[3] = json.dumps(head[3], ensure_ascii=False)[1:-1].replace('\\"', '"').replace("\\\\", "\\")
        return " ".join([*head, *(f"{key}={_quoted(value)}" for key, value in parts.items())])


class JsonFormatter(logging.Formatter):
    """The same parts as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_parts(record), ensure_ascii=False, default=str)


def _quoted(value: object) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text, ensure_ascii=False)
