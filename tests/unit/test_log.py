"""Log lines: one line each whatever is in them, in text and in JSON, at the right levels."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from proxy.config import Secret
from proxy.log import Log, setup


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("shardproxy")
    before = (root.handlers[:], root.level, ours.level)
    yield
    root.handlers[:], level, ours_level = before
    root.setLevel(level)
    ours.setLevel(ours_level)


def lines(level: str, format: str) -> tuple[Log, io.StringIO]:
    output = io.StringIO()
    setup(level, format, output)
    return Log("controller"), output


def test_text() -> None:
    log, output = lines("info", "text")
    log.info("backend is down", pool="p", backend="127.0.0.1:1", reason="no answer", epoch=3, empty="")
    stamp, rest = output.getvalue().split(" ", 1)
    assert rest == (
        'info controller backend is down pool=p backend=127.0.0.1:1 reason="no answer" epoch=3 empty=""\n'
    )
    assert len(stamp) == len("2026-11-20T12:00:00.123Z")


def test_json() -> None:
    log, output = lines("info", "json")
    log.warning("slow", seconds=1.5, backend="a:1", place=("x",))
    entry = json.loads(output.getvalue())
    assert entry.pop("time").endswith("Z")
    assert entry == {
        "level": "warning", "logger": "controller", "message": "slow", "seconds": 1.5, "backend": "a:1",
        "place": ["x"],
    }  # fmt: skip


@pytest.mark.parametrize("format", ["text", "json"])
def test_a_line_stays_one_line(format: str) -> None:
    log, output = lines("info", format)
    log.error('said 100% \n\x1b[31m "x"', reply="a\r\nb")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("failed")
    assert len(output.getvalue().splitlines()) == 2
    assert "\x1b" not in output.getvalue()
    assert "100%" in output.getvalue()
    assert "ValueError: two" in output.getvalue()


def test_levels() -> None:
    log, output = lines("warning", "text")
    log.debug("a")
    log.info("b")
    log.warning("c")
    logging.getLogger("hypercorn.error").info("Running on")
    assert output.getvalue().count("\n") == 1
    log, output = lines("debug", "text")
    log.debug("a")
    logging.getLogger("hypercorn.error").debug("noise")
    logging.getLogger("hypercorn.error").error("trouble")
    assert [line.split()[1:3] for line in output.getvalue().splitlines()] == [
        ["debug", "controller"],
        ["error", "hypercorn.error"],
    ]


def test_secrets_do_not_show() -> None:
    log, output = lines("info", "text")
    log.info("login", password=Secret(b"hunter2"))
    assert "hunter2" not in output.getvalue()
    assert "***" in output.getvalue()
