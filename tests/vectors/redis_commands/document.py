"""Writes the table in COMMANDS.md from the engine's own command table.

    python3 tests/vectors/redis_commands/document.py            # writes it
    python3 tests/vectors/redis_commands/document.py --check    # exits 1 if it would change

Needs the built engine. What stands above the marker is written by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from proxy import _engine

FILE = Path(__file__).resolve().parents[3] / "COMMANDS.md"
MARKER = "<!-- generated from here on: tests/vectors/redis_commands/document.py -->"


def table() -> Iterator[str]:
    """The lines of the table: commands that share a sentence and a container stand together."""
    sentences: dict[str, list[str]] = {}
    for row in _engine.command_table():
        if row.handling != "container":
            sentences.setdefault(row.summary, []).append(row.name.replace("|", " "))
    yield "| what becomes of it | commands |"
    yield "|---|---|"
    for sentence in sorted(sentences, key=lambda each: (each.startswith("Refused"), each)):
        yield f"| {sentence} | {', '.join(sorted(sentences[sentence]))} |"


def document() -> str:
    """What the file should hold."""
    above = FILE.read_text().partition(MARKER)[0]
    return above + MARKER + "\n" + "\n".join(table()) + "\n"


def main() -> int:
    """Exit status."""
    wanted = document()
    if FILE.read_text() == wanted:
        return 0
    if "--check" in sys.argv:
        print(f"{FILE.name} is out of date: run {Path(__file__).name}", file=sys.stderr)
        return 1
    FILE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
