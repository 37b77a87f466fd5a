"""Runs Redis' own tests against the proxy, and compares what fails with a written list.

    REDIS_SOURCE=~/redis python tests/redis_suite/run.py                     all units, all layouts
    ... python tests/redis_suite/run.py --layout 3x2 unit/type/list          one unit on 3 shards of 2
    ... python tests/redis_suite/run.py --layout plain                       a redis-server, no proxy

Called by ``make redis-suite``. What fails here and not on a plain server is in differences.toml; README.md
says how to get Redis' source and how to read the result.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

if __name__ == "__main__":  # as a script: find `support` beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from support.cluster import Cluster
from support.ports import free_port
from support.servers import RedisServer

HERE = Path(__file__).resolve().parent
UNITS = (
    *(f"type/{name}" for name in ("string", "incr", "list", "list-2", "list-3", "set", "zset", "hash")),
    *("type/stream", "type/stream-cgroups", "bitops", "bitfield", "geo", "hyperloglog", "sort", "scan"),
    *("keyspace", "expire", "dump", "lazyfree", "multi", "pubsub", "scripting", "functions", "protocol"),
    *("quit", "other", "info-command", "introspection", "introspection-2", "slowlog", "latency-monitor"),
    "violations",
)
"""Of Redis' tests/unit; README.md says why not the others."""

DENIED_TAGS = ("needs:repl", "needs:save", "needs:pfdebug")
"""What only a server itself can do: be replicated from, save, and tests of its inner parts."""

SERVER_OPTIONS = ("--enable-debug-command", "yes", "--enable-protected-configs", "yes")
QUIET_SECONDS = 240
"""A test that says nothing for so long hangs. Some send a hundred thousand requests."""


@dataclass(frozen=True)
class Layout:
    """What the tests run against.

    Args:
        shards: 0 for a plain redis-server.
    """

    name: str
    shards: int
    replicas: int = 1

    @property
    def arguments(self) -> list[str]:
        """For Redis' runner. As in a cluster, keys of one command share a hash tag where shards are many."""
        return ["--cluster-mode"] if self.shards > 1 else []


LAYOUTS = {
    layout.name: layout
    for layout in (Layout("1x1", 1), Layout("1x2", 1, 2), Layout("3x2", 3, 2), Layout("plain", 0))
}


@dataclass
class Result:
    """Of one unit: tests by what became of them, with the text of those that failed."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    ignored: int = 0


@dataclass
class Difference:
    """Tests that are known to fail, and why.

    Args:
        tests: ``"unit/multi: name of the test"``, where ``*`` stands for anything.
        layouts: where; everywhere if empty.
        left_out: not run at all, as it never ends or upsets those after it; a whole name.
        sometimes: may pass as well.
    """

    reason: str
    tests: list[str]
    layouts: list[str] = field(default_factory=list)
    left_out: bool = False
    sometimes: bool = False

    def is_of(self, layout: Layout) -> bool:
        """True if it is to be found there."""
        return not self.layouts or layout.name in self.layouts

    def covers(self, layout: Layout, test: str) -> str | None:
        """The pattern that a failed test matches, if one does."""
        found = (pattern for pattern in self.tests if matches(pattern, test))
        return next(found, None) if self.is_of(layout) else None


def matches(pattern: str, test: str) -> bool:
    """Shell patterns with ``*`` alone; names of tests hold brackets and question marks."""
    return fnmatchcase(test, re.sub(r"[\[?]", lambda found: f"[{found[0]}]", pattern))


def read_differences(path: Path = HERE / "differences.toml") -> list[Difference]:
    """The written list."""
    return [Difference(**entry) for entry in tomllib.loads(path.read_text())["difference"]]


LINE = re.compile(r"\[(ok|err|ignore|skip|exception|TIMEOUT)\]: (.*)")


def read_output(unit: str, lines: Iterable[str]) -> Result:
    """What Redis' runner printed for one unit."""
    result = Result()
    name = None
    for line in lines:
        if line.strip() == "The End":
            break  # the failures once more
        found = LINE.match(line)
        if found is None:
            if name is not None and line.strip():
                result.failed[name] += line
            continue
        kind, text = found.groups()
        name = None
        if kind == "ok":
            result.passed.append(f"{unit}: {text.rpartition(' (')[0]}")
        elif kind in ("ignore", "skip"):
            result.ignored += 1
        else:
            name = f"{unit}: {text.rpartition(' in tests/')[0] or kind}"
            result.failed[name] = result.failed.get(name, "") + ("" if kind == "err" else text + "\n")
    return result


@contextmanager
def target(layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """A port to test, and the addresses of the backends behind it (none of a plain server)."""
    if layout.shards == 0:
        with RedisServer(*SERVER_OPTIONS) as server:
            yield server.port, []
        return
    with Cluster(
        "redis",
        shards=layout.shards,
        replicas=layout.replicas,
        arguments=SERVER_OPTIONS,
        hash_tag="{}",
        # The tests stop servers for a second and send what takes one long.
        health={"interval": "2s", "timeout": "2s", "fall": 3},
        timeouts={"request": "20s"},
        resync={"auto": True},
        admin_commands=["monitor"],
    ) as cluster:
        yield cluster.proxy.redis_port, [server.address for row in cluster.servers for server in row]


@contextmanager
def copy_of(source: Path) -> Iterator[Path]:
    """Redis' tests with our overlay, in a directory that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="redis-suite-") as directory:
        root = Path(directory)
        shutil.copytree(source / "tests", root / "tests", symlinks=True)
        (root / "tests" / "tmp").mkdir(exist_ok=True)
        with (root / "tests" / "support" / "util.tcl").open("a") as last:
            last.write(f"\nsource {{{HERE / 'overlay.tcl'}}}\n")
        for program in ("redis-cli", "redis-benchmark", "redis-server"):  # where the tests look for them
            (root / "src").mkdir(exist_ok=True)
            if path := shutil.which(program):
                (root / "src" / program).symlink_to(path)
        yield root


def run_unit(
    root: Path, unit: str, port: int, backends: Sequence[str], layout: Layout, skipped: Sequence[str]
) -> tuple[Result, str]:
    """One unit, and the whole output."""
    skips = root / "skipped"
    skips.write_text("".join(f"{name}\n" for name in skipped))
    command = [shutil.which("tclsh") or "tclsh", "tests/test_helper.tcl"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--single", unit, "--durable", "--ignore-digest"]
    command += ["--tags", " ".join(f"-{tag}" for tag in DENIED_TAGS), "--timeout", str(QUIET_SECONDS)]
    # Where the two halves of the runner meet; it looks for a free port from 32 below this on.
    command += ["--baseport", str(free_port() + 32)]
    command += ["--skipfile", str(skips), *layout.arguments]
    environment = {**os.environ, "TERM": "dumb", "SHARDPROXY_SUITE_BACKENDS": " ".join(backends)}
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        output, _ = process.communicate()
    finally:  # it leaves what hangs behind
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return read_output(unit, output.splitlines(keepends=True)), output


class Judge:
    """Holds results against the written list, and prints what stands out.

    Attributes:
        unknown: tests that failed for no known reason.
        met: how often each pattern of the list was met.
    """

    def __init__(self, differences: Sequence[Difference]) -> None:
        self.differences = differences
        self.unknown: list[str] = []
        self.met: Counter[str] = Counter()

    def left_out(self, layout: Layout, unit: str) -> list[str]:
        """Names of the tests of a unit that are not to be run."""
        return [
            pattern.partition(": ")[2]
            for each in self.differences
            if each.left_out and each.is_of(layout)
            for pattern in each.tests
            if pattern.startswith(f"{unit}: ")
        ]

    def judge(self, layout: Layout, unit: str, result: Result) -> tuple[int, int]:
        """How many tests failed for no known reason, and how many for one."""
        known = 0
        for test, text in result.failed.items():
            pattern = next(filter(None, (each.covers(layout, test) for each in self.differences)), None)
            if pattern is None:
                self._fail(f"{layout.name} {test}", text)
            else:
                known += 1
                self.met[pattern] += 1
        if not (result.passed or result.failed or result.ignored):
            self._fail(f"{layout.name} {unit}", "it did not run")
        for test in result.passed:
            for each in self.differences:
                if test in each.tests and each.is_of(layout) and not each.sometimes:
                    print(f"PASSES {layout.name} {test}, which was to fail: {each.reason}", flush=True)
        return len(result.failed) - known, known

    def _fail(self, test: str, text: str) -> None:
        self.unknown.append(test)
        print(f"FAILED {test}\n    {text.strip()[:2000]}", flush=True)

    def unmet(self) -> list[str]:
        """Patterns of tests that were to fail and have not anywhere."""
        needed = (each for each in self.differences if not (each.left_out or each.sometimes))
        return [pattern for each in needed for pattern in each.tests if not self.met[pattern]]


def run_layout(source: Path, layout: Layout, units: Sequence[str], judge: Judge, logs: Path | None) -> None:
    """All units on one layout."""
    with copy_of(source) as root:
        for unit in units:
            began = time.monotonic()
            left_out = judge.left_out(layout, unit)
            # Servers of its own for each: what a test leaves behind would be its successors' failure.
            with target(layout) as (port, backends):
                result, output = run_unit(root, unit, port, backends, layout, left_out)
            if logs is not None:
                logs.mkdir(parents=True, exist_ok=True)
                (logs / f"{layout.name}-{unit.replace('/', '-')}.log").write_text(output)
            unknown, known = judge.judge(layout, unit, result)
            print(
                f"{layout.name} {unit}: {len(result.passed)} passed, {unknown} failed, "
                f"{known + len(left_out)} known to differ, {result.ignored - len(left_out)} not for this, "
                f"{time.monotonic() - began:.0f} s",
                flush=True,
            )


def main() -> int:
    """The command line; the exit status is 1 if a test failed that is not in the list."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("units", nargs="*", help="unit/multi and the like (all)")
    parser.add_argument("--layout", action="append", choices=LAYOUTS, help="(1x1, 1x2 and 3x2)")
    parser.add_argument("--logs", type=Path, help="directory for the whole output of each unit")
    arguments = parser.parse_args()
    source = Path(os.environ.get("REDIS_SOURCE", ""))
    if "REDIS_SOURCE" not in os.environ or not (source / "tests" / "test_helper.tcl").exists():
        version = subprocess.run(["redis-server", "--version"], capture_output=True, text=True).stdout
        found = re.search(r"v=(\S+)", version)
        print(
            "make redis-suite: REDIS_SOURCE must name a directory with Redis' source, of the version of the\n"
            "redis-server that is installed. To get it:\n"
            f"    git clone --depth 1 --branch {found[1] if found else '7.0.15'} "
            "https://github.com/redis/redis.git\n"
            "    REDIS_SOURCE=$PWD/redis make redis-suite",
            file=sys.stderr,
        )
        return 2
    if shutil.which("tclsh") is None:
        print("make redis-suite: tclsh is missing (apt-get install tcl)", file=sys.stderr)
        return 2
    units = arguments.units or [f"unit/{name}" for name in UNITS]
    judge = Judge(read_differences())
    for name in arguments.layout or ("1x1", "1x2", "3x2"):
        run_layout(source, LAYOUTS[name], units, judge, arguments.logs)
    if not arguments.units and not arguments.layout:
        for pattern in judge.unmet():
            print(f"PASSES everywhere, so it need not be in the list: {pattern}")
    print(f"{len(judge.unknown)} tests failed for no known reason" + (":" if judge.unknown else ""))
    for test in judge.unknown:
        print(f"  {test}")
    return min(1, len(judge.unknown))


if __name__ == "__main__":
    sys.exit(main())
