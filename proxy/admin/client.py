"""Asks a running proxy for its status and shows it as a table, or asks it to do something.

Called by ``cli`` only. Plain blocking HTTP: this is a process of its own that asks one question.
"""

import http.client
import json
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from rich.console import Console
from rich.table import Table
from rich.text import Text

from proxy.admin.metrics import unix_time
from proxy.config import Address, parse_address
from proxy.errors import AdminUnreachableError

TIMEOUT_SECONDS = 5.0
STATUS_PATH, RESYNC_PATH = "/api/v1/status", "/api/v1/resync"
# A status of 4096 shards with 16 backends is about 16 MiB; anything larger is not ours.
BODY_BYTES_MAX = 64 << 20
STATE_COLOURS: Final = {"in_sync": "green", "joining": "cyan", "stale": "yellow", "down": "red"}


def fetch_status(address: str) -> tuple[str, Mapping[str, Any]]:
    """The body of ``GET /api/v1/status``, raw and parsed.

    Args:
        address: ``host:port``, ``[ipv6]:port`` or ``unix:/path``; a leading ``http://`` is taken too.

    Raises:
        AdminUnreachableError: nobody answers there, or somebody who is no shardproxy.
    """
    code, body = _ask(address, "GET", STATUS_PATH)
    try:
        text = body.decode()
        parsed = json.loads(text)
        if code != 200 or "pools" not in parsed:
            raise ValueError
    except (ValueError, TypeError):
        raise _stranger(address, code, "status") from None
    return text, parsed


def ask_resync(address: str, pool: str, shard: str, backend: str | None) -> str | None:
    """Has a stale backend (the first, if none is named) brought back: ``POST /api/v1/resync``.

    Returns:
        None, or the proxy's words for why that cannot be.

    Raises:
        AdminUnreachableError: nobody answers there, or somebody who is no shardproxy.
    """
    words = {"pool": pool, "shard": shard, **({"backend": backend} if backend else {})}
    code, body = _ask(address, "POST", f"{RESYNC_PATH}?{urlencode(words)}")
    try:
        answer = json.loads(body)
        return None if code == 202 else str(answer["error"])
    except (ValueError, TypeError, KeyError):
        raise _stranger(address, code, "word on resynchronisation") from None


def _stranger(address: str, code: int, missing: str) -> AdminUnreachableError:
    return AdminUnreachableError(
        f"{address} answered {code} without a {missing}: is it the admin address of a shardproxy?"
    )


def _ask(address: str, method: str, path: str) -> tuple[int, bytes]:
    try:
        target = parse_address(address.removeprefix("http://").rstrip("/"))
    except ValueError as error:
        raise AdminUnreachableError(f"{address}: {error}") from None
    connection = _Connection(target)
    try:
        connection.request(method, path, headers={"host": "shardproxy"})
        response = connection.getresponse()
        return response.status, response.read(BODY_BYTES_MAX)
    except ConnectionRefusedError:
        raise AdminUnreachableError(
            f"nothing listens on {target}: is shardproxy running there? "
            "The address is `admin: {listen: ...}` of its configuration; name another with --admin"
        ) from None
    except TimeoutError:
        raise AdminUnreachableError(f"{target} did not answer within {TIMEOUT_SECONDS:g} seconds") from None
    except OSError as error:
        raise AdminUnreachableError(f"{target} cannot be reached: {error.strerror or error}") from None
    except http.client.HTTPException as error:
        raise AdminUnreachableError(
            f"{target} does not speak HTTP ({type(error).__name__}): is it a pool's address?"
        ) from None
    finally:
        connection.close()


class _Connection(http.client.HTTPConnection):
    def __init__(self, target: Address) -> None:
        super().__init__("shardproxy", timeout=TIMEOUT_SECONDS)
        self._target = target

    def connect(self) -> None:
        if self._target.is_unix:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(TIMEOUT_SECONDS)
            self.sock.connect(self._target.path)
        else:
            place = (self._target.host, self._target.port)
            self.sock = socket.create_connection(place, TIMEOUT_SECONDS)


def status_table(status: Mapping[str, Any], now: float | None = None) -> Table:
    """One row per backend, for people.

    Args:
        status: the parsed body.
        now: seconds since 1970, for "since"; the wall clock if None.
    """
    now = time.time() if now is None else now
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("pool", "shard", "epoch", "lead", "backend", "zone", "state", "since", "reason"):
        table.add_column(title, justify="right" if title == "epoch" else "left", no_wrap=title != "reason")
    for pool, pool_status in status["pools"].items():
        for shard, shard_status in pool_status["shards"].items():
            for position, backend in enumerate(shard_status["backends"]):
                lead = backend["address"] == shard_status["lead"]
                first = position == 0
                table.add_row(
                    pool if first else "",
                    shard if first else "",
                    str(shard_status["epoch"]) if first else "",
                    Text("*", "bold") if lead else "",
                    backend["address"],
                    backend.get("zone") or "",
                    _state(backend),
                    _age(backend.get("since"), now),
                    _reason(backend),
                )
            if shard_status["lead"] is None:
                reason = _reason(shard_status)
                text = "requests get errors" + (f": {reason}" if reason else "")
                nobody = Text("nobody leads", "bold red")
                table.add_row("", "", "", "", nobody, "", "", "", Text(text, "bold red"))
    return table


def print_status(status: Mapping[str, Any], console: Console | None = None) -> None:
    """Prints `status_table` and a line that sums it up."""
    # Piped into a file there is no width to fit; rich's default of 80 would break addresses.
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 160)
    console.print(status_table(status))
    console.print(summary(status), style="bold")


def summary(status: Mapping[str, Any]) -> str:
    """``4 shards, 4 with a lead; 8 backends: 7 in_sync, 1 down``."""
    shards = [shard for pool in status["pools"].values() for shard in pool["shards"].values()]
    states = [backend["state"] for shard in shards for backend in shard["backends"]]
    led = sum(shard["lead"] is not None for shard in shards)
    counts = ", ".join(f"{states.count(state)} {state}" for state in _present(states))
    return f"{_count(shards, 'shard')}, {led} with a lead; {_count(states, 'backend')}: {counts or 'none'}"


def _count(things: Sequence[object], noun: str) -> str:
    return f"{len(things)} {noun}" + ("" if len(things) == 1 else "s")


def _present(states: list[str]) -> Iterable[str]:
    return [*(s for s in STATE_COLOURS if s in states), *sorted(set(states) - STATE_COLOURS.keys())]


def _state(backend: Mapping[str, Any]) -> Text:
    text = Text(backend["state"], STATE_COLOURS.get(backend["state"], ""))
    return text.append(" drained", "magenta") if backend.get("drained") else text


def _reason(thing: Mapping[str, Any]) -> str:
    # "answers" is what every healthy one does; a column of it would hide the others.
    reason = thing.get("reason")
    words = "" if reason in (None, "none", "answers") else str(reason)
    work = thing.get("resync")
    return f"{words}, {_work(work)}" if work and words else _work(work) if work else words


def _work(work: Mapping[str, Any]) -> str:
    """``copying 120 of 200 MiB, 40 MiB/s, 2s left``."""
    text = f"{work['phase']} {work['bytes'] >> 20} of {work['expected_bytes'] >> 20} MiB"
    if work["bytes_per_second"]:
        text += f", {work['bytes_per_second'] >> 20} MiB/s"
    return text if work["seconds_left"] is None else f"{text}, {work['seconds_left']:.0f}s left"


def _age(since: object, now: float) -> str:
    start = unix_time(since)
    if start is None:
        return ""
    seconds = max(0, int(now - start))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"
