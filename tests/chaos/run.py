"""Runs random schedules of faults against real servers and proxies, and judges what clients were told.

    python tests/chaos/run.py --seed 17              one schedule again
    python tests/chaos/run.py --schedules 100        many; those that break a rule are named at the end

Called by ``make chaos`` and by tests/integration/test_chaos.py. Puts the parts together; what is broken
is in `chaos.schedule`, how in `chaos.faults`, and what must never be seen in `chaos.rules`.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # as a script: find `chaos` and `support` beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from chaos.copies import copy_of
from chaos.dialect import DIALECTS
from chaos.faults import DEEDS, Stage, perform
from chaos.gates import Gate
from chaos.history import Outcome
from chaos.rules import Promises, Violation, check, divergence, unfinished
from chaos.schedule import PRESENT, PROTOCOLS, Capabilities, Schedule, draw
from chaos.workload import Workload
from support.eventually import eventually
from support.proxy_process import ProxyProcess, pool
from support.servers import MemcachedServer, RedisServer, Server

HEALTH = {"timeout": "400ms", "fall": 3, "rise": 2}
TIMEOUTS = {"connect": "300ms", "request": "500ms"}
GRACE_SECONDS = 1.6
"""Beside the interval: a probe that times out, a view to be read and published, and a machine that is busy.
So late may a proxy adopt a view that another one made."""
REST_SECONDS = 20.0
"""Longest wait for all proxies to agree once nothing is broken any more."""
HEAL_SECONDS = 20.0
"""Longest time to bring back a backend that holds next to nothing."""
SHOWN_VIOLATIONS = 5
SHOWN_LOG_LINES = 60

Status = dict[str, dict[str, Any]]


@dataclass
class Report:
    """What a run found.

    Args:
        notes: what happened that is no violation but explains one.
    """

    schedule: Schedule
    violations: list[Violation]
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [str(self.schedule), f"  {counts}", *(f"  note: {note}" for note in self.notes)]
        lines += [f"  {violation}" for violation in self.violations[:SHOWN_VIOLATIONS]]
        if len(self.violations) > SHOWN_VIOLATIONS:
            lines.append(f"  and {len(self.violations) - SHOWN_VIOLATIONS} more violations")
        if self.violations:
            lines += self.logs
            lines.append(f"  to repeat: python tests/chaos/run.py --seed {self.schedule.seed}")
        return "\n".join(lines)


def run(schedule: Schedule) -> Report:
    """Carries out one schedule, in about its own seconds and two more.

    Raises:
        AssertionError: the proxies did not come to rest, or a process could not be started.
    """
    with ExitStack() as stack:
        stage = _build(schedule, stack)
        work = Workload(
            DIALECTS[schedule.protocol],
            [proxy.ports["p"] for proxy in stage.proxies],
            schedule.clients,
            schedule.seed,
            fills=schedule.evicts,
        )
        start = time.monotonic()
        work.start()
        _break(schedule, stage, start)
        work.stop()
        report = Report(schedule, _crashes(stage))
        if not report.violations:
            report.violations += _judge(schedule, stage, work, report, start)
        report.counts = {
            outcome.value: sum(op.outcome is outcome for op in work.history.ops) for outcome in Outcome
        }
        report.counts["noise"] = work.noise_answers
        report.logs = [_log(proxy) for proxy in stage.proxies]
        return report


def _build(schedule: Schedule, stack: ExitStack) -> Stage:
    servers: list[list[Server]] = []
    gates: list[list[Gate]] = []
    proxies: list[ProxyProcess] = []
    for _ in range(schedule.shards):
        row = [stack.enter_context(_server(schedule)) for _ in range(schedule.replicas)]
        servers.append(row)
        gates.append([stack.enter_context(Gate(each.port, proxies, schedule.proxies)) for each in row])
    addresses = [[gate.address for gate in row] for row in gates]
    health = {"interval": f"{schedule.interval}s", **HEALTH}
    options = {"hash_tag": "{}", "reads": schedule.reads, "health": health, "timeouts": TIMEOUTS}
    options["resync"] = {"auto": schedule.resynchronises}
    config = {
        "workers": schedule.workers,
        "pools": {"p": pool(schedule.protocol, *addresses, **options)},
        "shutdown_grace": "500ms",
    }
    for _ in range(schedule.proxies):
        proxies.append(ProxyProcess(config))
        stack.enter_context(proxies[-1])
    return Stage(servers, gates, proxies, schedule.survivors)


def _server(schedule: Schedule) -> Server:
    if schedule.protocol == "memcached":
        return MemcachedServer(*(["-m", "2"] if schedule.evicts else []))
    options = ["--enable-protected-configs", "yes", "--maxmemory-policy", "noeviction"]
    if schedule.persistent:
        options += ["--appendonly", "yes", "--appendfsync", "always"]
    return RedisServer(*options)


def _break(schedule: Schedule, stage: Stage, start: float) -> None:
    """All faults; returns when the last is mended and the time is over.

    Each has a thread of its own and comes at its moment, or, where backends are brought up to date, one
    comes after the other.
    """
    failures: list[BaseException] = []

    def guarded(fault: Any) -> None:
        try:
            perform(stage, fault, start)
        except BaseException as error:
            failures.append(error)

    if schedule.resynchronises:
        for fault in schedule.faults:
            if not _heals(stage):
                return  # which `_judge` will find as well
            DEEDS[fault.sort](stage, fault)
    else:
        threads = [threading.Thread(target=guarded, args=(fault,)) for fault in schedule.faults]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    time.sleep(max(0.3, start + schedule.seconds - time.monotonic()))


def _crashes(stage: Stage) -> list[Violation]:
    found = []
    for number, proxy in enumerate(stage.proxies):
        text = proxy.log_text()
        if not proxy.is_running():
            found.append(Violation("crash", b"", f"proxy {number} has ended"))
        elif "panicked at" in text or "Traceback" in text:
            found.append(Violation("crash", b"", f"proxy {number} logged a panic or a traceback"))
    return found


def _judge(schedule: Schedule, stage: Stage, work: Workload, report: Report, start: float) -> list[Violation]:
    violations = []
    status = None
    if schedule.resynchronises and not _heals(stage):
        states = [proxy.backend_states("p") for proxy in stage.proxies]
        violations.append(Violation("not healed", b"", f"within {HEAL_SECONDS} s; {states}"))
    try:
        status = eventually(lambda: _at_rest(stage), within=REST_SECONDS, what="all proxies agree")
    except AssertionError as restless:
        views = [_outline(proxy.status()["pools"]["p"]["shards"]) for proxy in stage.proxies]
        violations.append(Violation("no rest", b"", f"{restless}; {views}"))
    for number, proxy in enumerate(stage.proxies):
        work.read_all(proxy.ports["p"], number)
    if status is None:
        return _check(schedule, stage, work, start) + violations
    excused = unfinished(work.history, stage.kills)
    for shard, row in enumerate(stage.servers):
        found = _in_sync(status, shard)
        in_sync = [row[at] for at, gate in enumerate(stage.gates[shard]) if gate.address in found]
        if not schedule.resynchronises and stage.gates[shard][schedule.survivors[shard]].address not in found:
            report.notes.append(f"the survivor of shard {shard} is out of sync: loss is to be expected")
        if not schedule.evicts:
            copies = {server.address: copy_of(schedule.protocol, server) for server in in_sync}
            # Noise goes through the first proxy and is not in the history.
            broken = any(proxy == 0 for proxy, _, _ in stage.kills)
            noise = {key for copy in copies.values() for key in copy if key not in work.keys}
            violations += divergence(copies, excused | (noise if broken else set()))
    return _check(schedule, stage, work, start) + violations


def _check(schedule: Schedule, stage: Stage, work: Workload, start: float) -> list[Violation]:
    promises = Promises(
        may_vanish=schedule.evicts,
        may_come_late=schedule.replicas == 1,
        grace_seconds=schedule.interval + GRACE_SECONDS if schedule.proxies > 1 else 0.0,
        reads_go_on=schedule.replicas > 1,
        interruptions=tuple((proxy, since - start, to - start) for proxy, since, to in stage.interruptions),
    )
    for op in work.history.ops:
        op.begin -= start
        op.end -= start
    return check(work.history, promises)


def _at_rest(stage: Stage) -> Status | None:
    """What all proxies say of the shards, if they say the same and each shard is led."""
    views = [_outline(proxy.status()["pools"]["p"]["shards"]) for proxy in stage.proxies]
    if any(view != views[0] for view in views) or any(shard["lead"] is None for shard in views[0].values()):
        return None
    return views[0]


def _heals(stage: Stage) -> bool:
    """Waits until every proxy finds every backend in sync; False if that takes too long."""

    def is_whole() -> bool:
        return all(set(proxy.backend_states("p").values()) == {"in_sync"} for proxy in stage.proxies)

    try:
        return eventually(is_whole, within=HEAL_SECONDS)
    except AssertionError:
        return False


def _outline(shards: Status) -> Status:
    return {
        name: {
            "lead": shard["lead"],
            "epoch": shard["epoch"],
            "in_sync": sorted(b["address"] for b in shard["backends"] if b["state"] == "in_sync"),
        }
        for name, shard in shards.items()
    }


def _in_sync(status: Status, shard: int) -> list[str]:
    found: list[str] = status[f"s{shard + 1}"]["in_sync"]
    return found


def _log(proxy: ProxyProcess) -> str:
    lines = proxy.log_text().splitlines()
    return "\n    ".join([f"  log of {proxy!r}:", *lines[-SHOWN_LOG_LINES:]])


def run_many(seeds: Iterable[int], arguments: argparse.Namespace) -> int:
    """Runs them one after the other until the time is over; returns how many broke a rule."""
    capabilities = Capabilities(frozenset(arguments.resync)) if arguments.resync else PRESENT
    began, bad, done = time.monotonic(), [], 0
    for seed in seeds:
        if time.monotonic() - began > arguments.minutes * 60:
            print(f"time is over after {done} schedules")
            break
        schedule = draw(seed, capabilities, protocol=arguments.protocol)
        try:
            report = run(schedule)
        except (AssertionError, RuntimeError, OSError) as error:
            report = Report(schedule, [Violation("did not run", b"", repr(error))])
        done += 1
        if report.violations:
            bad.append((seed, sorted({violation.rule for violation in report.violations})))
        print(report if report.violations or arguments.verbose else f"seed {seed}: ok", flush=True)
    print(f"{done} schedules, {len(bad)} with violations")
    for seed, rules in bad:
        print(f"  seed {seed}: {', '.join(rules)}")
    return len(bad)


def main() -> int:
    """The command line; the exit status is 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, help="one schedule, shown whole")
    parser.add_argument("--schedules", type=int, default=20, help="how many (20)")
    parser.add_argument("--first", type=int, help="seed of the first; the others follow (random)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="instead of the one drawn")
    parser.add_argument("--minutes", type=float, default=60.0, help="no new schedule after that (60)")
    parser.add_argument(
        "--resync", action="append", choices=PROTOCOLS, help="expect that backends of it are refilled"
    )
    parser.add_argument("--verbose", action="store_true", help="show every schedule whole")
    arguments = parser.parse_args()
    if arguments.seed is not None:
        arguments.verbose = True
        return min(1, run_many([arguments.seed], arguments))
    first = arguments.first if arguments.first is not None else random.SystemRandom().randrange(10**6)
    print(f"seeds from {first} on", flush=True)
    return min(1, run_many(range(first, first + arguments.schedules), arguments))


if __name__ == "__main__":
    sys.exit(main())
