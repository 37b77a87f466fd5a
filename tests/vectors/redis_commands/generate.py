"""Writes everything that is learned from a live redis-server about its commands.

    python3 tests/vectors/redis_commands/generate.py            # all of it
    python3 tests/vectors/redis_commands/generate.py --check    # exits 1 if a file would change

It starts a private redis-server (whatever is on PATH) and writes, from the repository root:

``proxy/engine/src/command/rows.rs``
    COMMAND as Rust data: arity, flags, categories, tips, key specs, subcommands.
``tests/vectors/redis_commands/getkeys.json``
    What COMMAND GETKEYS says about the argument lists of ``cases.py``.
``tests/vectors/redis_commands/replies.json``
    The server's very bytes for requests that the proxy answers itself.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from cases import GETKEYS, REPLIES
from live_redis import Connection, ReplyError, private_server
from newer_commands import ARITIES, NEWER

HERE = Path(__file__).parent
ROOT = HERE.parent.parent.parent
ROWS = ROOT / "proxy/engine/src/command/rows.rs"

HEADER = """\
//! The commands of redis-server {version} as data, and the few newer ones listed in `newer_commands.py`.
//!
//! Generated, do not edit: `python3 tests/vectors/redis_commands/generate.py` writes this file from
//! the COMMAND reply of a live server. What the proxy does with a command is decided in `overlay.rs`.

use super::spec::{{Begin, Find, Flags, KeyFlags, KeySpec, Raw}};
"""


def constant(name: str) -> str:
    return name.upper().replace("-", "_")


def bits(kind: str, names: list[str]) -> str:
    """``["write", "fast"]`` as a constant expression of the bit set ``kind``."""
    if not names:
        return f"{kind}::NONE"
    first, *rest = [f"{kind}::{constant(name)}" for name in sorted(names)]
    return first + "".join(f".with({name})" for name in rest)


def pairs(flat: list[Any]) -> dict[str, Any]:
    """A RESP2 map (flat list) with its keys as text."""
    return {text(flat[i]): flat[i + 1] for i in range(0, len(flat), 2)}


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def quoted(names: list[str]) -> str:
    return "&[" + ", ".join(f'"{name}"' for name in names) + "]"


def spec_code(flat: list[Any]) -> str:
    """One key specification as a Rust expression."""
    spec = pairs(flat)
    begin, find = pairs(spec["begin_search"]), pairs(spec["find_keys"])
    begin_spec, find_spec = pairs(begin["spec"]), pairs(find["spec"])
    match text(begin["type"]):
        case "index":
            begin_code = f"Begin::Index({begin_spec['index']})"
        case "keyword":
            word = text(begin_spec["keyword"])
            begin_code = f'Begin::Keyword {{ word: "{word}", from: {begin_spec["startfrom"]} }}'
        case _:
            begin_code = "Begin::Unknown"
    match text(find["type"]):
        case "range":
            last, step, limit = find_spec["lastkey"], find_spec["keystep"], find_spec["limit"]
            find_code = f"Find::Range {{ last: {last}, step: {step}, limit: {limit} }}"
        case "keynum":
            count, first, step = find_spec["keynumidx"], find_spec["firstkey"], find_spec["keystep"]
            find_code = f"Find::KeyNum {{ count: {count}, first: {first}, step: {step} }}"
        case _:
            find_code = "Find::Unknown"
    flags = bits("KeyFlags", [text(flag) for flag in spec["flags"]])
    return f"KeySpec {{ begin: {begin_code}, find: {find_code}, flags: {flags} }}"


class Table:
    """Collects rows in the order they are written: a container, then its subcommands."""

    def __init__(self) -> None:
        self.specs: dict[str, int] = {}
        self.rows: list[str] = []

    def add(self, entry: list[Any]) -> None:
        name, arity, flags, first, last, step, categories, tips, specs, subcommands = entry
        named = [f"S{self.specs.setdefault(spec_code(spec), len(self.specs))}" for spec in specs]
        self.rows.append(
            f'    Raw {{ name: "{text(name).upper()}", arity: {arity}, '
            f"flags: {bits('Flags', [text(flag) for flag in flags])}, "
            f"legacy: ({first}, {last}, {step}), "
            f"categories: {quoted([text(c).removeprefix('@') for c in categories])}, "
            f"tips: {quoted([text(tip) for tip in tips])}, "
            f"specs: &[{', '.join(named)}] }},"
        )
        for subcommand in sorted(subcommands, key=lambda sub: text(sub[0])):
            self.add(subcommand)

    def code(self, version: str) -> str:
        lines = [HEADER.format(version=version)]
        lines.append(f'/// The server this was learned from.\npub const VERSION: &str = "{version}";\n')
        lines += [f"#[rustfmt::skip]\nconst S{i}: KeySpec = {code};" for code, i in self.specs.items()]
        lines.append("\n/// Sorted by name; the subcommands of a container follow it.\n#[rustfmt::skip]")
        lines.append(f"pub static RAW: [Raw; {len(self.rows)}] = [")
        lines += self.rows
        lines.append("];\n")
        return "\n".join(lines)


def with_newer(commands: list[list[Any]]) -> list[list[Any]]:
    """Adds the commands of later servers that this one does not have, and how many arguments they take."""
    by_name = {text(entry[0]): entry for entry in commands}
    for name, arity in ARITIES.items():
        by_name[name][1] = arity
    for entry in NEWER:
        name = entry[0]
        parent, _, sub = name.partition("|")
        if sub:
            known = by_name[parent][9]
            if name not in [text(row[0]) for row in known]:
                known.append(entry)
        elif name not in by_name:
            by_name[name] = entry
    return [by_name[name] for name in sorted(by_name)]


def rows_code(connection: Connection) -> str:
    info = text(connection.call(b"INFO", b"server"))
    version = next(line[14:] for line in info.splitlines() if line.startswith("redis_version:"))
    table = Table()
    for entry in with_newer(connection.call(b"COMMAND")):
        table.add(entry)
    return table.code(version)


def getkeys_cases(connection: Connection) -> str:
    """COMMAND GETKEYS of each request; the keys, or null where the server finds fault."""
    cases = []
    for request in GETKEYS:
        args = [arg.encode() for arg in request.split()]
        reply = connection.call(b"COMMAND", b"GETKEYS", *args)
        keys = None if isinstance(reply, ReplyError) else [text(key) for key in reply]
        cases.append({"request": request.split(), "keys": keys, "error": reply if keys is None else None})
    return json.dumps(cases, indent=1) + "\n"


def reply_cases(path: Path, admin: Connection) -> str:
    """The bytes of each scripted connection, latin-1 so that JSON holds them unchanged."""
    cases = []
    for script in REPLIES:
        for name, password in script.users.items():
            rule = [b"on", b"resetpass", b">" + password.encode(), b"~*", b"+@all"]
            admin.call(b"ACL", b"SETUSER", name.encode(), *rule)
        connection = Connection(path)
        steps = []
        for request in script.requests:
            args = request if isinstance(request, list) else request.split()
            if isinstance(request, str) and request in script.muted:
                connection.send(*[arg.encode("latin-1") for arg in args])
                reply = b""
            else:
                reply = connection.raw(*[arg.encode("latin-1") for arg in args])
            steps.append({"request": args, "reply": reply.decode("latin-1")})
        connection.close()
        cases.append({"users": script.users, "steps": steps})
        for name in script.users:
            if name == "default":
                admin.call(b"ACL", b"SETUSER", b"default", b"nopass")
            else:
                admin.call(b"ACL", b"DELUSER", name.encode())
    return json.dumps(cases, indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="change nothing, exit 1 if a file is out of date"
    )
    check = parser.parse_args().check
    with private_server() as path:
        connection = Connection(path)
        contents = {
            ROWS: rows_code(connection),
            HERE / "getkeys.json": getkeys_cases(connection),
            HERE / "replies.json": reply_cases(path, connection),
        }
        connection.close()
    stale = [file for file, content in contents.items() if not file.exists() or file.read_text() != content]
    for file in stale:
        print(f"{'out of date' if check else 'written'}: {file.relative_to(ROOT)}")
        if not check:
            file.write_text(contents[file])
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
