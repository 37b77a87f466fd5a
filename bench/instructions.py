"""Counts the engine's instructions per request and compares them with the table: part of ``make test``.

callgrind counts what `proxy/engine/src/bin/replay.rs` has the engine do for a fixed stream. Counts repeat
where times do not, so a few per cent of speed cannot get lost unseen. ``make counts`` renews the table.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).resolve().parent
CRATE = HERE.parent / "proxy/engine"
REPLAY = CRATE / "target/counted/replay"
TABLE = HERE / "instructions.json"
PROFILES = HERE / "out"

TOLERANCE = 0.05
"""Growth that is taken for noise of the compiler's choices."""
NAMED_SHARE = 0.02
"""Functions with at least this share of a stream's instructions stand in the table."""
NAMED_GROWTH = 5

# What memcpy and the like are for the C library depends on the processor, unless it may not use the newest.
ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-AVX2_Usable,-AVX,-ERMS"}


@dataclass(frozen=True)
class Count:
    """Instructions per request of one stream, and what each function has of them, its callees not counted."""

    instructions: float
    functions: Mapping[str, float] = field(default_factory=dict)


Counts = Mapping[str, Count]
"""By name of the stream."""


@dataclass(frozen=True)
class Toolchain:
    """What counts depend on besides the code."""

    compiler: str
    architecture: str


def parse_profile(text: str) -> dict[str, int]:
    """Instructions by function, from a profile written without compressed names and positions.

    The line behind a ``calls=`` has what the callee took, which its own lines have too.
    """
    functions: dict[str, int] = {}
    name, is_call = "", False
    for line in text.splitlines():
        if line.startswith("fn="):
            name = line.removeprefix("fn=")
        elif line.startswith("calls="):
            is_call = True
        elif line[:1].isdigit():
            if not is_call:
                functions[name] = functions.get(name, 0) + int(line.split()[1])
            is_call = False
    return functions


def per_request(functions: Mapping[str, int], requests: int) -> Count:
    """The mean over a stream, with the functions that matter.

    Raises:
        ValueError: the profile is empty.
    """
    total = sum(functions.values())
    if not total:
        raise ValueError("nothing was counted: is measured_turn of replay.rs still a function of its own?")
    costly = sorted(functions.items(), key=lambda item: -item[1])
    named = {name: round(cost / requests, 1) for name, cost in costly if cost >= total * NAMED_SHARE}
    return Count(round(total / requests, 1), named)


def growth(before: Count, now: Count) -> list[tuple[str, float]]:
    """Functions with more instructions than before, the one that grew most first.

    One that is in one of the tables only may have been just below what is named there in the other.
    """
    least = NAMED_SHARE * before.instructions
    changes = [(name, cost - before.functions.get(name, least)) for name, cost in now.functions.items()]
    return sorted((item for item in changes if item[1] > 0.5), key=lambda item: -item[1])[:NAMED_GROWTH]


def faults(expected: Counts, found: Counts) -> list[str]:
    """What is wrong, a text for each stream; empty if nothing is."""
    texts = [f"{name}: is in the table and not in the engine's replay" for name in expected.keys() - found]
    for name, now in found.items():
        before = expected.get(name)
        if before is None:
            texts.append(f"{name}: is not in the table yet: `make counts`")
            continue
        ratio = now.instructions / before.instructions
        if ratio <= 1 + TOLERANCE:
            continue
        lines = [
            f"{name}: {now.instructions:,.0f} instructions per request, {ratio - 1:+.1%} on "
            f"{before.instructions:,.0f}; {TOLERANCE:.0%} are tolerated"
        ]
        lines += [f"    {more:+8.1f}  {function}" for function, more in growth(before, now)]
        lines.append(f"    the profile: callgrind_annotate {PROFILES / name}.callgrind")
        texts.append("\n".join(lines))
    return sorted(texts)


def fallen(expected: Counts, found: Counts) -> list[str]:
    """Streams that got so much faster that the table no longer guards them."""
    return sorted(
        name
        for name, now in found.items()
        if name in expected and now.instructions < expected[name].instructions * (1 - TOLERANCE)
    )


def count(stream: str) -> Count:
    """Has callgrind count one stream; leaves its profile in `PROFILES`.

    Raises:
        subprocess.CalledProcessError: the replay failed; what it said is its ``stderr``.
    """
    PROFILES.mkdir(exist_ok=True)
    profile = PROFILES / f"{stream}.callgrind"
    options = ["--tool=callgrind", f"--callgrind-out-file={profile}", "--toggle-collect=*measured_turn*"]
    options += ["--compress-pos=no", "--compress-strings=no", "--quiet"]
    done = subprocess.run(
        ["valgrind", *options, REPLAY, stream],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | ENVIRONMENT,
    )
    return per_request(parse_profile(profile.read_text()), json.loads(done.stdout)["requests"])


def count_all() -> dict[str, Count]:
    """All streams, two at a time."""
    names = subprocess.run([REPLAY], capture_output=True, text=True, check=True).stdout.split()
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(count, names), strict=True))


def toolchain() -> Toolchain:
    """Of this machine."""
    done = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=CRATE)
    return Toolchain(done.stdout.strip(), platform.machine())


def read_table(text: str) -> tuple[Toolchain, dict[str, Count]]:
    """What `write_table` wrote."""
    document = json.loads(text)
    streams = {name: Count(**fields) for name, fields in document["per_request"].items()}
    return Toolchain(document["compiler"], document["architecture"]), streams


def write_table(tools: Toolchain, counts: Counts) -> str:
    """As JSON, one line for each number, so that a change of one is a change of one line."""
    streams = {
        name: {"instructions": each.instructions, "functions": dict(each.functions)}
        for name, each in counts.items()
    }
    document = {"compiler": tools.compiler, "architecture": tools.architecture, "per_request": streams}
    return json.dumps(document, indent=1) + "\n"


def why_not(here: Toolchain, table: Toolchain | None) -> str | None:
    """Why nothing can be counted or compared here, if so."""
    if not sys.platform.startswith("linux"):
        return "callgrind counts on Linux only"
    try:
        subprocess.run(["valgrind", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "valgrind is not installed here"
    if table is not None and here != table:
        return (
            f"the table is of {table.compiler} on {table.architecture}, and this is {here.compiler} on "
            f"{here.architecture}; `make counts` on the state before your change gives one to compare with"
        )
    return None


def show(expected: Counts, found: Counts, console: Console) -> None:
    """Each stream with its count, and how it compares."""
    table = Table("stream", caption="instructions per request")
    for column in ("table", "now", "change"):
        table.add_column(column, justify="right")
    for name, now in found.items():
        before = expected.get(name)
        change = f"{now.instructions / before.instructions - 1:+.1%}" if before else ""
        was = f"{before.instructions:,.0f}" if before else ""
        table.add_row(name, was, f"{now.instructions:,.0f}", change)
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compares, or renews the table; 1 if something grew."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--renew", action="store_true", help="write the counts of now into the table")
    options = parser.parse_args(arguments)
    console = Console()
    here = toolchain()
    of_table, expected = read_table(TABLE.read_text()) if TABLE.exists() else (here, {})
    if reason := why_not(here, None if options.renew else of_table):
        console.print(f"instructions: not counted: {escape(reason)}", soft_wrap=True)
        return 0
    try:
        found = count_all()
    except subprocess.CalledProcessError as failure:
        sys.exit(f"{failure}\n{failure.stderr}")
    show(expected, found, console)
    if options.renew:
        TABLE.write_text(write_table(here, found))
        console.print(f"written: {TABLE}", soft_wrap=True)
        return 0
    if faster := fallen(expected, found):
        console.print(f"Faster, which `make counts` makes the new measure: {', '.join(faster)}")
    found_faults = faults(expected, found)
    for text in found_faults:
        console.print(escape(text), style="red", soft_wrap=True, highlight=False)
    if found_faults:
        console.print("If it has to be so, `make counts` renews the table; say why in the commit.")
    return 1 if found_faults else 0


if __name__ == "__main__":
    sys.exit(main())
