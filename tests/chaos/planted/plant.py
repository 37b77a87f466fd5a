"""Plants a fault in a copy of the source, builds the copy apart, and runs the checker until it complains.

    python tests/chaos/planted/plant.py acknowledge_before_replica
    python tests/chaos/planted/plant.py --list
    python tests/chaos/planted/plant.py --all

Called by ``make planted``. The exit status is 1 if the checker noticed nothing. The source itself is not
touched; the copy is under .cache/planted/ and may be removed at any time.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests"))

from chaos.planted.plants import PLANTS, Plant  # noqa: E402

LIBRARY = "_engine.abi3.so"
BROKEN = re.compile(r"^  seed \d+: ([a-z ,]+)$", re.MULTILINE)
"""The broken rules, at the end of what `chaos.run` prints: of the violations it shows a few only."""
VIOLATION = re.compile(r"^  [a-z ]+: ")


class DoesNotApply(Exception):
    """The text that a plant replaces does not stand there once."""


def planted(source: str, plant: Plant) -> str:
    """The text of the file with the fault in it. Raises `DoesNotApply`."""
    found = source.count(plant.old)
    if found != 1:
        raise DoesNotApply(f"{plant.file}: expected once, found {found} times: {plant.old!r}")
    return source.replace(plant.old, plant.new)


def make_copy(name: str, plant: Plant) -> Path:
    """A copy of the package with the fault in it, its engine built if that is where the fault is."""
    copy = ROOT / ".cache" / "planted" / name
    shutil.rmtree(copy, ignore_errors=True)
    skipped = shutil.ignore_patterns("target", "fuzz", "__pycache__")
    shutil.copytree(ROOT / "proxy", copy / "proxy", ignore=skipped)
    file = copy / plant.file
    file.write_text(planted(file.read_text(), plant))
    if plant.needs_build:
        target = ROOT / ".cache" / "planted" / "target"
        command = ["cargo", "build", "--release", "--locked", "--quiet", "--lib", "--features", "python"]
        environment = {**os.environ, "CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable}
        # Only a program to be tested: the slow last step of optimisation is left out.
        environment |= {"CARGO_PROFILE_RELEASE_LTO": "off", "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16"}
        subprocess.run(command, cwd=copy / "proxy" / "engine", env=environment, check=True)
        shutil.copy(target / "release" / "lib_engine.so", copy / "proxy" / LIBRARY)
    return copy


def hunt(name: str, plant: Plant, rounds: int) -> bool:
    """Runs the plant's schedules; True once one of them breaks a rule that the fault would break."""
    copy = make_copy(name, plant)
    environment = {**os.environ, "PYTHONPATH": str(copy)}  # before the package that is installed
    script = ROOT / "tests" / "chaos" / "run.py"
    for seed in plant.seeds * rounds:
        command = [sys.executable, str(script), "--seed", str(seed)]
        output = subprocess.run(command, env=environment, text=True, stdout=subprocess.PIPE).stdout
        broken = BROKEN.search(output)
        rules = set(broken[1].split(", ") if broken else ()) & set(plant.rules)
        if rules:
            print(f"{name}: noticed with seed {seed}: {', '.join(sorted(rules))}")
            shown = [line for line in output.splitlines() if VIOLATION.match(line)]
            print("\n".join(line[:200] for line in shown[:3]))
            return True
        print(f"{name}: seed {seed} showed nothing", flush=True)
    print(f"{name}: NOT noticed")
    return False


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PLANTS, []], metavar="NAME")
    parser.add_argument("--all", action="store_true", help="every fault")
    parser.add_argument("--list", action="store_true", help="what there is")
    parser.add_argument("--rounds", type=int, default=3, help="how often to try each seed (3)")
    arguments = parser.parse_args()
    if arguments.list:
        for name, plant in PLANTS.items():
            print(f"{name}: {plant.meaning}")
        return 0
    names = list(PLANTS) if arguments.all else arguments.names
    missed = [name for name in names if not hunt(name, PLANTS[name], arguments.rounds)]
    return min(1, len(missed))


if __name__ == "__main__":
    sys.exit(main())
