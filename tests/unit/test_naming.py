"""Default labels: the table of the four forms, the real programs' answers, and refused addresses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.control.naming import LABEL_RULES, default_label

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"

TWEMPROXY = ["ketama", "modula", "random"]
LIBMEMCACHED = ["libmemcached_ketama", "libmemcached_ketama_weighted"]
PLAIN = ["rendezvous", "slots", "jump"]


@pytest.mark.parametrize(
    ("distributions", "address", "label"),
    [
        (TWEMPROXY, "cache:11211", "cache"),
        (TWEMPROXY, "cache:11212", "cache:11212"),
        (TWEMPROXY, "10.0.0.1:6379", "10.0.0.1:6379"),
        (TWEMPROXY, "[::1]:7001", "::1:7001"),
        (TWEMPROXY, "[fe80::1]:11211", "fe80::1"),
        (TWEMPROXY, "unix:/run/a.sock", "/run/a.sock:"),
        (LIBMEMCACHED, "cache:11211", "cache"),
        (LIBMEMCACHED, "cache:7001", "cache:7001"),
        (LIBMEMCACHED, "[::1]:7001", "::1:7001"),
        (LIBMEMCACHED, "unix:/run/a.sock", "/run/a.sock:0"),
        (PLAIN, "cache:11211", "cache:11211"),
        (PLAIN, "[::1]:7001", "::1:7001"),
        (PLAIN, "unix:/run/a.sock", "/run/a.sock"),
    ],
)
def test_label_of_address(distributions: list[str], address: str, label: str) -> None:
    for distribution in distributions:
        assert default_label(distribution, address) == label, distribution


def test_labels_are_those_the_real_programs_hashed() -> None:
    # The engine's tests prove that keys placed under these labels land where the programs put them.
    proven: dict[str, int] = {}
    for path in sorted(VECTORS.glob("*/*.csv")):
        lines = path.read_text(encoding="utf-8").splitlines()
        header = [line.removeprefix("# ").split(" ") for line in lines if line.startswith("# ")]
        distribution = next(words[1] for words in header if words[0] == "distribution")
        for words in header:
            if words[0] == "shard" and len(words) == 4:
                label, address = words[2:]
                assert default_label(distribution, address) == label, f"{path.name}: {address}"
                proven[distribution] = proven.get(distribution, 0) + 1
    assert {name for name, count in proven.items() if count >= 5} == {
        "ketama",
        "modula",
        "rendezvous",
        *LIBMEMCACHED,
    }


def test_every_distribution_of_the_engine_has_a_rule() -> None:
    source = (ROOT / "proxy" / "engine" / "src" / "ring.rs").read_text(encoding="utf-8")
    table = source.split("pub const ALL", 1)[1].split("];", 1)[0]
    assert re.findall(r'"(\w+)"', table) == list(LABEL_RULES)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "cache",
        "cache:",
        ":7001",
        "cache:0",
        "cache:65536",
        "cache:-1",
        "cache:70a",
        "cache:\u0667\u0660",
        "cache:07001",
        "::1:7001",
        "[]:7001",
        "unix:",
        "unix:run/a.sock",
        "/run/a.sock",
    ],
)
def test_refused_addresses_are_named(address: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(address))):
        default_label("ketama", address)


def test_unknown_distribution_lists_the_known() -> None:
    with pytest.raises(ValueError, match=r"'ketma'.*ketama.*jump"):
        default_label("ketma", "cache:11211")
