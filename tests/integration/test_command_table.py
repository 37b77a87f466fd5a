"""The engine's command table against the redis-server on this machine.

A table that was written down once goes wrong silently; this asks the server that is installed. The
keys and the local answers are compared in ``proxy/engine/tests/commands.rs`` with files that
``tests/vectors/redis_commands/generate.py`` makes, and this checks that those are current.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxy import _engine

ROOT = Path(__file__).parent.parent.parent
VECTORS = ROOT / "tests/vectors/redis_commands"
sys.path.insert(0, str(VECTORS))

import document  # noqa: E402
from live_redis import Connection, private_server  # noqa: E402
from newer_commands import ARITIES, NEWER  # noqa: E402
from support.servers import redis_server  # noqa: E402

MEASURED = {"slowlog", "commandlog", "latency"}
"""For operators, but only about what servers have measured."""
TABLE = {row.name.lower(): row for row in _engine.command_table()}
NEWER_NAMES = {row[0] for row in NEWER}


@pytest.fixture(scope="module")
def server() -> Iterator[Connection]:
    with private_server(redis_server()) as path:
        connection = Connection(path)
        yield connection
        connection.close()


@pytest.fixture(scope="module")
def described(server: Connection) -> dict[str, tuple[int, set[str]]]:
    """Arity and flags of every command and subcommand the server has."""
    found: dict[str, tuple[int, set[str]]] = {}

    def add(entry: list[Any]) -> None:
        found[entry[0].decode()] = (entry[1], set(entry[2]))
        for subcommand in entry[9]:
            add(subcommand)

    for entry in server.call(b"COMMAND"):
        add(entry)
    return found


def test_names_stand_once() -> None:
    assert len(TABLE) == len(_engine.command_table()) > 300


def test_every_row_is_as_the_server_describes_it(described: dict[str, tuple[int, set[str]]]) -> None:
    if described.keys() & NEWER_NAMES:
        pytest.skip("a newer server than the table was made from: it has other flags for the same commands")
    known = TABLE.keys() & described.keys()
    assert len(known) > 300
    ours = {name: (TABLE[name].arity, set(TABLE[name].flags)) for name in known}
    wider = {name: (ARITIES.get(name, arity), flags) for name, (arity, flags) in described.items()}
    assert ours == {name: wider[name] for name in known}


def test_what_a_newer_server_takes_is_passed_on(described: dict[str, tuple[int, set[str]]]) -> None:
    """However many arguments it takes, and what it calls a read or a write, of all that goes to servers."""
    differing = {}
    for name in TABLE.keys() & described.keys():
        row, (arity, flags) = TABLE[name], described[name]
        if row.handling in ("local", "refuse", "container"):
            continue
        takes_less = row.arity != arity and (row.arity > 0 or (arity < 0 and row.arity < arity))
        if takes_less or {"write", "readonly"} & flags ^ {"write", "readonly"} & set(row.flags):
            differing[name] = (arity, flags)
    assert differing == {}


def test_a_row_we_added_has_its_keys_where_a_newer_server_says(server: Connection) -> None:
    for name, *_, specs, _ in NEWER:
        entry = server.call(b"COMMAND", b"INFO", name.encode())[0]
        if entry is not None and TABLE[name].handling == "forward":
            assert [places(spec) for spec in entry[8]] == [places(spec) for spec in specs], name


def places(spec: list[Any]) -> list[Any]:
    """Where the keys of a specification are, without what is done with them: that differs by version."""
    fields = dict(zip(map(as_text, spec[::2]), spec[1::2], strict=True))
    return as_text([fields["begin_search"], fields["find_keys"]])


def as_text(value: Any) -> Any:
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return value.decode() if isinstance(value, bytes) else value


def test_every_command_of_the_server_has_a_row(described: dict[str, tuple[int, set[str]]]) -> None:
    if described.keys() & NEWER_NAMES:
        pytest.skip("a newer server than the table was made from")
    assert described.keys() - TABLE.keys() == set()


def test_a_row_the_server_lacks_is_one_we_added(described: dict[str, tuple[int, set[str]]]) -> None:
    assert TABLE.keys() - described.keys() <= NEWER_NAMES


@pytest.mark.parametrize(
    ("name", "handling"),
    [
        ("get", "forward"),
        ("xreadgroup", "forward"),
        ("object|encoding", "forward"),
        ("mget", "split"),
        ("unlink", "split"),
        ("hello", "local"),
        ("client|setinfo", "local"),
        ("client", "container"),
        ("multi", "transaction"),
        ("ssubscribe", "channel"),
        ("publish", "channel"),
        ("blpop", "block"),
        ("script|load", "fan"),
        ("flushall", "fan"),
        ("script|debug", "refuse"),
    ],
)
def test_handling(name: str, handling: str) -> None:
    assert TABLE[name].handling == handling


def test_no_command_for_operators_reaches_a_backend(described: dict[str, tuple[int, set[str]]]) -> None:
    for name, row in TABLE.items():
        if {"admin", "pubsub"} & described.get(name, (0, set()))[1]:
            is_usual = row.handling in ("local", "refuse", "channel")
            only_tells = name.partition("|")[0] in MEASURED or name == "module|list"
            assert is_usual or only_tells, name


def test_generated_files_are_current(server: Connection) -> None:
    info = server.call(b"INFO", b"server").decode()
    version = next(line[14:] for line in info.splitlines() if line.startswith("redis_version:"))
    if f'VERSION: &str = "{version}"' not in (ROOT / "proxy/engine/src/command/rows.rs").read_text():
        pytest.skip(f"the files were made with another server than {version}")
    checked = subprocess.run(
        [sys.executable, VECTORS / "generate.py", "--check"], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_document_is_current() -> None:
    assert document.FILE.read_text() == document.document(), "run tests/vectors/redis_commands/document.py"
