"""Of the comparison of instruction counts: what is read, what fails, and what it says."""

import pytest
from instructions import (
    Count,
    Toolchain,
    fallen,
    faults,
    growth,
    parse_profile,
    per_request,
    read_table,
    why_not,
    write_table,
)

PROFILE = """\
version: 1
positions: line
events: Ir
summary: 160

ob=/usr/lib/libc.so.6
fl=???
fn=memcpy
0 40

fn=engine::take
12 50
14 10
cob=/usr/lib/libc.so.6
cfn=memcpy
calls=3 0
15 40
16 5
fn=engine::deliver
7 54
fn=engine::rare
9 1

totals: 160
"""


def test_what_a_callee_took_is_counted_once() -> None:
    found = parse_profile(PROFILE)
    assert found == {"memcpy": 40, "engine::take": 65, "engine::deliver": 54, "engine::rare": 1}
    assert sum(found.values()) == 160


def test_counts_are_per_request_and_name_what_matters() -> None:
    count = per_request(parse_profile(PROFILE), 10)
    assert count == Count(16.0, {"engine::take": 6.5, "engine::deliver": 5.4, "memcpy": 4.0})
    with pytest.raises(ValueError, match="nothing was counted"):
        per_request({}, 10)


BEFORE = {"p1": Count(1000.0, {"take": 400.0, "deliver": 300.0})}


@pytest.mark.parametrize(
    ("now", "is_fault", "is_fallen"),
    [(1000.0, False, False), (1049.0, False, False), (1051.0, True, False), (940.0, False, True)],
)
def test_only_growth_beyond_the_tolerance_fails(now: float, is_fault: bool, is_fallen: bool) -> None:
    found = {"p1": Count(now, {"take": 400.0, "deliver": 300.0})}
    assert bool(faults(BEFORE, found)) == is_fault
    assert fallen(BEFORE, found) == (["p1"] if is_fallen else [])


def test_a_fault_says_what_grew_and_where_to_look() -> None:
    found = {"p1": Count(1200.0, {"take": 390.0, "deliver": 420.0, "new": 110.0})}
    (text,) = faults(BEFORE, found)
    assert "p1: 1,200 instructions per request, +20.0% on 1,000" in text
    assert "callgrind_annotate" in text
    assert "out/p1.callgrind" in text
    # New ones had less than the share from which on a function is named, so that much is no growth.
    assert growth(BEFORE["p1"], found["p1"]) == [("deliver", 120.0), ("new", 90.0)]


def test_table_and_engine_have_the_same_streams() -> None:
    assert faults(BEFORE, {}) == ["p1: is in the table and not in the engine's replay"]
    (text,) = faults({}, BEFORE)
    assert "is not in the table yet" in text


def test_the_table_is_read_as_it_was_written() -> None:
    tools = Toolchain("rustc 1.2.3", "x86_64")
    assert read_table(write_table(tools, BEFORE)) == (tools, BEFORE)


def test_counts_of_another_compiler_are_not_compared() -> None:
    here = Toolchain("rustc 1.2.3", "x86_64")
    reason = why_not(here, Toolchain("rustc 1.2.2", "x86_64"))
    assert reason is not None
    # Without valgrind that is the reason, where the comparison is skipped as well.
    assert "rustc 1.2.2" in reason or "valgrind" in reason
