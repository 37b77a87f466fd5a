"""Measures this proxy against nutcracker and against no proxy: ``make bench``, or see ``--help``.

Every scenario is put on every target in turn, round by round, so that what drifts on the machine
drifts for all alike; what is compared is the ratio of medians. `bench/README.md` has the method.
"""

import argparse
import re
import sys
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

# The servers and the proxy process of the tests; installed packages contain neither.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from load import LOADGEN, LoadFailed, Result, measure, populate
from report import print_replica_cost, print_table, write_json
from scenarios import SCENARIOS, Scenario
from support.servers import has_program
from targets import TARGETS, start


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of one measurement")
    parser.add_argument("--only", default="", metavar="REGEX", help="scenarios whose name matches")
    parser.add_argument("--targets", default=",".join(TARGETS), help="a part of the default list")
    parser.add_argument("--load", choices=["loadgen", "redis-benchmark"], default="loadgen")
    parser.add_argument("--list", action="store_true", help="print the names of the scenarios and end")
    return parser.parse_args()


def refuse_debug_engine() -> None:
    """Ends the program if the engine is not the one that users run."""
    from proxy import _engine

    if _engine.build_profile != "release":
        sys.exit(f"the engine is a {_engine.build_profile} build; build it with `make build`")


def chosen(options: argparse.Namespace) -> list[Scenario]:
    """The scenarios to run; redis-benchmark speaks only Redis."""
    return [
        scenario
        for scenario in SCENARIOS
        if re.search(options.only, scenario.name)
        and (options.load == "loadgen" or scenario.protocol == "redis")
    ]


def main() -> None:
    """Runs everything, prints the table, writes the file."""
    options = parse()
    scenarios = chosen(options)
    if options.list or not scenarios:
        print("\n".join(scenario.name for scenario in SCENARIOS))
        return
    names = [name for name in TARGETS if name in options.targets.split(",")]
    console = Console(width=None if sys.stdout.isatty() else 150)
    if "nutcracker" in names and not has_program("nutcracker"):
        console.print("nutcracker is not installed: measured without it")
        names.remove("nutcracker")
    if "shardproxy" in names:
        refuse_debug_engine()
    if not LOADGEN.exists():
        sys.exit(f"{LOADGEN} is missing; `make bench` builds it")

    measurements: dict[str, dict[str, list[Result]]] = {scenario.name: {} for scenario in scenarios}
    failed = False
    with ExitStack() as stack:
        protocols = {scenario.protocol for scenario in scenarios}
        targets = start(names, protocols, {scenario.replicas for scenario in scenarios}, stack)
        for target in targets:
            populate(target, Scenario(target.protocol, 50, 1))
        for turn in range(options.rounds):
            for scenario in scenarios:
                wanted = (scenario.protocol, scenario.replicas)
                for target in (t for t in targets if (t.protocol, t.replicas) == wanted):
                    console.print(f"round {turn + 1}: {scenario.name}: {target.name}", highlight=False)
                    rows = measurements[scenario.name].setdefault(target.name, [])
                    try:
                        rows.append(measure(target, scenario, options.seconds, options.load))
                    except LoadFailed as failure:
                        console.print(str(failure), style="red", markup=False)
                        failed = True
    print_table(measurements, console)
    print_replica_cost(measurements, console)
    settings = {key: getattr(options, key) for key in ("rounds", "seconds", "only", "load")}
    console.print(f"written: {write_json(measurements, settings)}", soft_wrap=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
