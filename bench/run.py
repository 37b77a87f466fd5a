"""Measures this proxy against others and against no proxy: ``make bench``, or see ``--help``.

Every scenario is put on every peer in turn, round by round, so that what drifts on the machine drifts for
all alike; what is compared is the ratio of medians. `bench/README.md` has the method.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# The servers and the proxy process of the tests; installed packages contain neither.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import fanout
import large
import memory
import rebuild
from load import GENERATORS, LOADGEN, LoadFailed, Result, generator_for, measure, populate
from peers import OURS, PEERS, Running, start
from report import (
    RESULTS,
    cores,
    document_of,
    medians_of,
    print_facts,
    print_table,
    print_verdicts,
    unused,
    write_json,
)
from scenarios import GROUPS, Scenario, chosen
from targets import judge

EXTRAS: Mapping[str, tuple[str, Callable[[], dict[str, float]]]] = {
    "memory": ("what an idle client takes, the process after its start and after a burst", memory.measure),
    "rebuild": ("a routing table of 1,000 shards made anew under load", rebuild.measure),
    "large": ("small requests beside one client with values of 16 MiB", large.measure),
    "fanout": ("publish and subscribe with 100 subscribers", fanout.measure),
}
"""What is measured besides scenarios, by name."""

Rows = dict[str, dict[str, list[Result]]]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each (3)")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement (2)")
    parser.add_argument("--all", action="store_true", help="every scenario; takes hours")
    parser.add_argument("--only", default="", metavar="REGEX", help="of 'GROUP: SCENARIO' those that match")
    parser.add_argument("--peers", default=",".join(PEERS), help="a part of the default list")
    parser.add_argument("--load", choices=["auto", *GENERATORS], default="auto", help="which load generator")
    parser.add_argument("--list", action="store_true", help="print groups, scenarios and peers, and end")
    return parser.parse_args(arguments)


def refuse_debug_engine() -> None:
    """Ends the program if the engine is not the one that users run."""
    from proxy import _engine

    if _engine.build_profile != "release":
        sys.exit(f"the engine is a {_engine.build_profile} build; build it with `make build`")


def selected(options: argparse.Namespace) -> tuple[dict[str, list[Scenario]], list[str]]:
    """Scenarios by group, and names of extras."""

    def matches(group: str, name: str) -> bool:
        return re.search(options.only, f"{group}: {name}") is not None

    groups = {
        group: [each for each in scenarios if matches(group, each.name)]
        for group, scenarios in chosen(options.all).items()
    }
    extras = [name for name in EXTRAS if matches("besides", name)]
    return {group: scenarios for group, scenarios in groups.items() if scenarios}, extras


def print_list(options: argparse.Namespace, console: Console) -> None:
    """What there is to measure, and against what."""
    for group in GROUPS:
        console.print(f"[bold]{group.name}[/]: {group.about}")
        for scenario in chosen(options.all)[group.name]:
            console.print(f"  {scenario.name}", highlight=False)
    console.print("[bold]besides[/]")
    for name, (about, _) in EXTRAS.items():
        console.print(f"  {name}: {about}", highlight=False)
    console.print("[bold]peers[/]")
    for name, peer in PEERS.items():
        reason = peer.missing()
        console.print(f"  {name}: {peer.about}{f' ({reason})' if reason else ''}", highlight=False)


class Run:
    """One run: what was measured so far."""

    def __init__(self, options: argparse.Namespace, console: Console) -> None:
        self.options = options
        self.console = console
        self.rows: Rows = {}
        self.facts: dict[str, float] = {}
        self.failed = False
        asked = options.peers.split(",")
        for line in unused(asked):
            console.print(line, highlight=False)
        self.names = [name for name, peer in PEERS.items() if name in asked and not peer.missing()]

    def measure_group(self, scenarios: Sequence[Scenario], progress: Progress) -> None:
        """All scenarios of one group, their processes up at the same time."""
        usable = [each for each in scenarios if self._has_generator(each)]
        with ExitStack() as stack:
            running: list[Running] = []
            for layout in dict.fromkeys(each.layout for each in usable):
                running += start(layout, self.names, stack, self._say_failed)
            turns = [
                (scenario, peer)
                for scenario in usable
                for peer in running
                if peer.layout == scenario.layout and PEERS[peer.name].can(scenario)
            ]
            task = progress.add_task("", total=len(turns) * self.options.rounds)
            written: dict[str, int] = {}
            for number in range(self.options.rounds):
                for scenario, peer in turns:
                    progress.update(task, description=f"round {number + 1}: {scenario.name}: {peer.name}")
                    self._measure(scenario, peer, written)
                    progress.advance(task)
            progress.remove_task(task)

    def _say_failed(self, failure: Exception) -> None:
        self.console.print(str(failure), style="red", markup=False)
        self.failed = True

    def _has_generator(self, scenario: Scenario) -> bool:
        if generator_for(scenario, self.options.load) is not None:
            return True
        reason = "no load generator here makes it (memtier_benchmark makes all)"
        self.console.print(f"{scenario.name}: left out: {reason}", highlight=False)
        return False

    def _measure(self, scenario: Scenario, peer: Running, written: dict[str, int]) -> None:
        rows = self.rows.setdefault(scenario.name, {}).setdefault(peer.name, [])
        generator = generator_for(scenario, self.options.load)
        assert generator is not None
        place = f"{peer.name} {peer.port}"
        try:
            if written.get(place) != scenario.value_bytes:
                populate(peer, scenario)
                written[place] = scenario.value_bytes
            rows.append(measure(peer, scenario, self.options.seconds, generator))
        except LoadFailed as failure:
            self._say_failed(failure)

    def measure_extra(self, name: str) -> None:
        """One of `EXTRAS`."""
        try:
            self.facts |= EXTRAS[name][1]()
        except (LoadFailed, OSError) as failure:
            self._say_failed(failure)


def say_cores(scenarios: Sequence[Scenario], console: Console) -> None:
    """Which scenarios want more cores than there are, and what that means."""
    here = cores()
    wanting = [each for each in scenarios if each.cores > here]
    if wanting:
        console.print(
            f"{here} cores, and {len(wanting)} of {len(scenarios)} scenarios want up to "
            f"{max(each.cores for each in wanting)}, one each for the load, the backends and every worker: "
            "there CPU per request says more than requests per second, which whatever shares a core limits",
            style="yellow",
            highlight=False,
        )


def measure_all(run: Run, groups: Mapping[str, Sequence[Scenario]], extras: Sequence[str]) -> None:
    """Group by group, with the progress shown."""
    columns = (TextColumn("{task.description}"), *Progress.get_default_columns()[1:3])
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=run.console) as progress:
        whole = progress.add_task("all", total=len(groups) + len(extras))
        for group, scenarios in groups.items():
            progress.update(whole, description=f"all: {group}")
            run.measure_group(scenarios, progress)
            progress.advance(whole)
        for name in extras:
            progress.update(whole, description=f"all: {name}")
            run.measure_extra(name)
            progress.advance(whole)


def main() -> None:
    """Runs everything, prints the tables, writes the files."""
    options = parse()
    # Envoy's package puts it beside the Python that runs this.
    os.environ["PATH"] += f":{Path(sys.executable).parent}"
    console = Console(width=None if sys.stdout.isatty() else 160)
    groups, extras = selected(options)
    if options.list or not (groups or extras):
        print_list(options, console)
        return
    if OURS in options.peers:
        refuse_debug_engine()
    if not LOADGEN.exists():
        sys.exit(f"{LOADGEN} is missing; `make bench` builds it")
    run = Run(options, console)
    say_cores([each for scenarios in groups.values() for each in scenarios], console)
    try:
        measure_all(run, groups, extras)
    except KeyboardInterrupt:
        run.failed = True
        console.print("interrupted: what follows is of what was measured until then", style="yellow")
    finish(run, console)
    sys.exit(run.failed)


def finish(run: Run, console: Console) -> None:
    """Tables, the file, pictures."""
    medians = medians_of(run.rows)
    verdicts = judge(medians, run.facts, cores())
    print_table(medians, console)
    print_facts(run.facts, console)
    print_verdicts(verdicts, console)
    settings = {name: getattr(run.options, name) for name in ("rounds", "seconds", "only", "all", "load")}
    path = write_json(document_of(run.rows, run.facts, verdicts, settings))
    console.print(f"written: {path}", soft_wrap=True)
    try:
        import charts

        pictures = charts.draw(medians, RESULTS / path.stem)
    except ImportError as missing:
        console.print(f"no pictures: {missing}", soft_wrap=True)
        return
    console.print(f"pictures: {len(pictures)} in {RESULTS / path.stem}", soft_wrap=True)


if __name__ == "__main__":
    main()
