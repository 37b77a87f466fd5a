"""Runs random schedules of faults against real servers and proxies, and judges what clients were told.

    python tests/chaos/run.py --seed 17              one schedule again
    python tests/chaos/run.py --schedules 100        many; those that break a rule are named at the end
    python tests/chaos/run.py --each                 every sort of fault once, alone, and whether it is felt

Called by ``make chaos`` and by tests/integration/test_chaos.py. Puts the parts together; what is broken
is in `chaos.schedule`, how in `chaos.faults`, and what must never be seen in `chaos.rules`.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

if __name__ == "__main__":  # as a script: find `chaos` and `support` beside it
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from chaos.copies import copy_of
from chaos.dialect import DIALECTS
from chaos.faults import DEEDS, Stage
from chaos.gates import Gate
from chaos.history import Outcome
from chaos.refill import disturb
from chaos.rest import HEAL_SECONDS, REST_SECONDS, at_rest, heals, in_sync, outline
from chaos.rules import Promises, Violation, check, divergence, unfinished
from chaos.schedule import NOTHING, PRESENT, PROTOCOLS, Capabilities, Fault, Schedule, draw, each_sort
from chaos.workload import ANSWER_SECONDS, Workload
from support import clock, namespace
from support.eventually import eventually
from support.network import Network
from support.process import Process
from support.proxy_process import ProxyProcess, pool
from support.raw import RawClient
from support.servers import MemcachedServer, RedisServer, Server

HEALTH = {"timeout": "400ms", "fall": 3, "rise": 2}
TIMEOUTS = {"connect": "300ms", "request": "500ms"}
GRACE_SECONDS = 1.6
"""Beside the interval: a probe that times out, a view to be read and published, and a machine that is busy.
So late may a proxy adopt a view that another one made."""
SHOWN_VIOLATIONS = 5
SHOWN_LOG_LINES = 60


@dataclass
class Report:
    """What a run found.

    Args:
        notes: what happened that is no violation but explains one.
        bites: the faults that were done, and how often each had an effect.
        skipped: why it was not run at all, if it was not.
    """

    schedule: Schedule
    violations: list[Violation]
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    logs: list[str] = field(default_factory=list)
    bites: list[tuple[Fault, int]] = field(default_factory=list)
    skipped: str = ""

    def __str__(self) -> str:
        if self.skipped:
            return f"seed {self.schedule.seed}: skipped, {self.skipped}"
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [str(self.schedule), f"  {counts}", *(f"  note: {note}" for note in self.notes)]
        lines += [f"  felt {bites} times: {fault}" for fault, bites in self.bites]
        lines += [f"  {violation}" for violation in self.violations[:SHOWN_VIOLATIONS]]
        if len(self.violations) > SHOWN_VIOLATIONS:
            lines.append(f"  and {len(self.violations) - SHOWN_VIOLATIONS} more violations")
        if self.violations:
            lines += self.logs
            lines.append(f"  to repeat: python tests/chaos/run.py --seed {self.schedule.seed}")
        return "\n".join(lines)


def why_not(schedule: Schedule) -> str:
    """Why this machine cannot run it; empty if it can."""
    reasons: dict[str, Callable[[], str]] = {"network": namespace.why_not, "clock": clock.why_not}
    return "; ".join(filter(None, (reasons[need]() for need in sorted(schedule.needs))))


def run(schedule: Schedule) -> Report:
    """Carries out one schedule, in about its own seconds and two more.

    Raises:
        AssertionError: the proxies did not come to rest, or a process could not be started.
    """
    if reason := why_not(schedule):
        return Report(schedule, [], skipped=reason)
    with ExitStack() as stack:
        network = None
        if "network" in schedule.needs:
            network = stack.enter_context(Network(schedule.proxies))
            # With it everything that is started from here; the proxies go into networks of their own.
            stack.enter_context(network.hub.inside())
        elif not namespace.why_not():
            # Where other tests run on the same machine, their proxies may ask for backends that are gone, and
            # find ours at their ports, of the same names.
            own = namespace.Namespace()
            stack.callback(own.close)
            stack.enter_context(own.inside())
        report = Report(schedule, [])
        stage = _build(schedule, stack, network)

        def connect(number: int) -> RawClient:
            proxy = stage.proxies[number]
            with proxy.inside():
                return RawClient(proxy.ports["p"], timeout=ANSWER_SECONDS)

        work = Workload(
            DIALECTS[schedule.protocol],
            connect,
            schedule.proxies,
            schedule.clients,
            schedule.seed,
            fills=schedule.evicts,
            large=schedule.large,
            parts_fail=schedule.protocol == "memcached" and schedule.shards > 1,
        )
        start = time.monotonic()
        work.start()
        _break(schedule, stage, start, report)
        work.stop()
        report.violations = _crashes(stage)
        if not report.violations:
            report.violations += _judge(schedule, stage, work, report, start)
        report.counts = {
            outcome.value: sum(op.outcome is outcome for op in work.history.ops) for outcome in Outcome
        }
        report.counts["noise"] = work.noise_answers
        report.logs = [_log(proxy) for proxy in stage.proxies]
        return report


def _build(schedule: Schedule, stack: ExitStack, network: Network | None) -> Stage:
    servers: list[list[Server]] = []
    gates: list[list[Gate]] = []
    proxies: list[ProxyProcess] = []
    clocks: dict[int, clock.Clock] = {}

    def begin(process: Process) -> None:
        if "clock" in schedule.needs:
            made = clocks[id(process)] = clock.Clock()
            stack.callback(made.close)
            process.environment = made.environment
        stack.enter_context(process)

    for _ in range(schedule.shards):
        row = [_server(schedule) for _ in range(schedule.replicas)]
        for server in row:
            begin(server)
        servers.append(row)
        made = [Gate(each.port, proxies, schedule.proxies, network) for each in row]
        gates.append([stack.enter_context(gate) for gate in made])
    addresses = [[gate.address for gate in row] for row in gates]
    health = {"interval": f"{schedule.interval}s", **HEALTH}
    options = {"hash_tag": "{}", "reads": schedule.reads, "health": health, "timeouts": TIMEOUTS}
    options["resync"] = {"auto": schedule.resynchronises}
    config = {
        "workers": schedule.workers,
        "pools": {"p": pool(schedule.protocol, *addresses, **options)},
        "shutdown_grace": "500ms",
    }
    for number in range(schedule.proxies):
        proxies.append(ProxyProcess(config))
        if network is not None:
            proxies[-1].inside = network.edges[number].inside
        begin(proxies[-1])
    return Stage(servers, gates, proxies, schedule.survivors, network, clocks, schedule.persistent)


def _server(schedule: Schedule) -> Server:
    if schedule.protocol == "memcached":
        return MemcachedServer(*(["-m", "2"] if schedule.evicts else []))
    options = ["--enable-protected-configs", "yes", "--maxmemory-policy", "noeviction"]
    if schedule.persistent:
        options += ["--appendonly", "yes", "--appendfsync", "always"]
    return RedisServer(*options)


def _break(schedule: Schedule, stage: Stage, start: float, report: Report) -> None:
    """All faults; returns when the last is mended and the time is over.

    Each has a thread of its own and comes at its moment, or, where backends are brought up to date, one
    comes after the other.
    """
    failures: list[BaseException] = []

    def perform(fault: Fault) -> None:
        report.bites.append((fault, DEEDS[fault.sort](stage, fault)))

    def guarded(fault: Fault) -> None:
        try:
            time.sleep(max(0.0, start + fault.at - time.monotonic()))
            perform(fault)
        except BaseException as error:
            failures.append(error)

    if schedule.resynchronises:
        for fault in schedule.faults:
            if fault.during:
                done = disturb(stage, fault, HEAL_SECONDS)
                if done is None:
                    report.notes.append(f"did not come about: {fault}")
                else:
                    report.bites.append(done)
                if stage.blackouts and stage.blackouts[-1][1] == inf:
                    is_whole = heals(stage)
                    stage.blackouts[-1] = stage.blackouts[-1][0], time.monotonic()
                    if not is_whole:
                        return
            elif heals(stage):
                perform(fault)
            else:
                return  # which `_judge` will find as well
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
    if schedule.resynchronises and not heals(stage):
        states = [proxy.backend_states("p") for proxy in stage.proxies]
        violations.append(Violation("not healed", b"", f"within {HEAL_SECONDS} s; {states}"))
    try:
        status = eventually(lambda: at_rest(stage), within=REST_SECONDS, what="all proxies agree")
    except AssertionError as restless:
        views = [outline(proxy.status()["pools"]["p"]["shards"]) for proxy in stage.proxies]
        violations.append(Violation("no rest", b"", f"{restless}; {views}"))
    for number in range(schedule.proxies):
        work.read_all(number)
    if status is None:
        return _check(schedule, stage, work, start) + violations
    excused = unfinished(work.history, stage.kills)
    for shard, row in enumerate(stage.servers):
        found = in_sync(status, shard)
        members = [row[at] for at, gate in enumerate(stage.gates[shard]) if gate.address in found]
        if not schedule.resynchronises and stage.gates[shard][schedule.survivors[shard]].address not in found:
            report.notes.append(f"the survivor of shard {shard} is out of sync: loss is to be expected")
        if not schedule.evicts:
            copies = {
                server.address: copy_of(schedule.protocol, server, schedule.jump_seconds)
                for server in members
            }
            # Noise goes through the first proxy and is not in the history.
            broken = any(proxy == 0 for proxy, _, _ in stage.kills)
            noise = {key for copy in copies.values() for key in copy if key not in work.keys}
            violations += divergence(copies, excused | (noise if broken else set()))
    return _check(schedule, stage, work, start) + violations


def _check(schedule: Schedule, stage: Stage, work: Workload, start: float) -> list[Violation]:
    promises = Promises(
        may_vanish=schedule.evicts,
        may_come_late=schedule.replicas == 1,
        grace_seconds=schedule.interval + GRACE_SECONDS + schedule.pause_seconds
        if schedule.proxies > 1
        else 0.0,
        reads_go_on=schedule.replicas > 1,
        interruptions=tuple((proxy, since - start, to - start) for proxy, since, to in stage.interruptions),
        blackouts=tuple((since - start, to - start) for since, to in stage.blackouts),
    )
    for op in work.history.ops:
        op.begin -= start
        op.end -= start
    return check(work.history, promises)


def _log(proxy: ProxyProcess) -> str:
    lines = proxy.log_text().splitlines()
    return "\n    ".join([f"  log of {proxy!r}:", *lines[-SHOWN_LOG_LINES:]])


def run_many(schedules: Iterable[Schedule], arguments: argparse.Namespace) -> int:
    """Runs them one after the other until the time is over; returns how many broke a rule, or, with
    ``--each``, had a fault that nobody felt."""
    began, bad, done, skipped = time.monotonic(), [], 0, 0
    bites: dict[str, list[int]] = defaultdict(list)
    for schedule in schedules:
        seed, at = schedule.seed, time.monotonic()
        if at - began > arguments.minutes * 60:
            print(f"time is over after {done} schedules")
            break
        try:
            report = run(schedule)
        except (AssertionError, RuntimeError, OSError) as error:
            report = Report(schedule, [Violation("did not run", b"", repr(error))])
        if report.skipped:
            skipped += 1
        else:
            done += 1
        for fault, count in report.bites:
            bites[fault.sort].append(count)
        if arguments.each is not None and not report.skipped and not (report.bites and report.bites[-1][1]):
            report.violations.append(Violation("not felt", b"", str(schedule.faults[-1])))
        if report.violations:
            bad.append((seed, sorted({violation.rule for violation in report.violations})))
        is_shown = report.violations or report.skipped or arguments.verbose
        print(report if is_shown else f"seed {seed}: ok, {time.monotonic() - at:.1f} s", flush=True)
    for sort, counts in sorted(bites.items()):
        print(f"  {sort:14} {len(counts):4} times, felt {sum(map(bool, counts)):4} times")
    print(f"{done} schedules, {len(bad)} with violations" + (f", {skipped} skipped" if skipped else ""))
    for seed, rules in bad:
        print(f"  seed {seed}: {', '.join(rules)}")
    return len(bad)


def capabilities(words: Sequence[str] | None) -> Capabilities:
    """What ``--resync`` stands for."""
    if not words:
        return PRESENT
    return NOTHING if words == ["none"] else Capabilities(frozenset(words) - {"none"})


def main() -> int:
    """The command line; the exit status is 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, help="one schedule, shown whole")
    parser.add_argument("--schedules", type=int, default=20, help="how many (20)")
    parser.add_argument("--first", type=int, help="seed of the first; the others follow (random)")
    parser.add_argument("--protocol", choices=PROTOCOLS, help="instead of the one drawn")
    parser.add_argument("--minutes", type=float, default=60.0, help="no new schedule after that (60)")
    parser.add_argument(
        "--resync",
        action="append",
        choices=(*PROTOCOLS, "none"),
        help="expect that backends of it are refilled, and of no other (redis)",
    )
    parser.add_argument(
        "--each",
        nargs="*",
        metavar="SORT",
        help="each sort of fault (or this one) once, and whether it is felt",
    )
    parser.add_argument("--verbose", action="store_true", help="show every schedule whole")
    arguments = parser.parse_args()
    if arguments.each is not None:
        chosen = [each for each in each_sort() if arguments.each in ([], [each.faults[-1].sort])]
        return min(1, run_many(chosen, arguments))
    seeds = range(arguments.seed or 0, (arguments.seed or 0) + 1)
    if arguments.seed is not None:
        arguments.verbose = True
    else:
        first = arguments.first if arguments.first is not None else random.SystemRandom().randrange(10**6)
        print(f"seeds from {first} on", flush=True)
        seeds = range(first, first + arguments.schedules)
    known = capabilities(arguments.resync)
    return min(1, run_many((draw(seed, known, protocol=arguments.protocol) for seed in seeds), arguments))


if __name__ == "__main__":
    sys.exit(main())
