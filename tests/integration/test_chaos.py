"""A few schedules of faults, drawn from fixed seeds; `make chaos` runs as many as one likes.

That the checker would notice is shown by its rules (`unit/test_chaos_rules.py`) and by planted faults
(`chaos/planted/`).
"""

from __future__ import annotations

import itertools

import pytest
from chaos.run import run
from chaos.schedule import PRESENT, SORTS, Capabilities, Schedule, Target, draw

SEEDS = (3, 7, 22, 34, 46, 131)
"""Short ones, three of each protocol, with one to three proxies. Seeds that once found a fault are added."""


@pytest.mark.fault
@pytest.mark.parametrize("seed", SEEDS)
def test_no_rule_is_broken(seed: int) -> None:
    report = run(draw(seed))
    if report.skipped:
        pytest.skip(report.skipped)
    assert report.violations == [], str(report)
    assert any(count for _, count in report.bites), f"nobody felt a fault: {report}"
    assert report.counts["ok"] > 100, "the clients were heard"


def test_a_seed_is_a_schedule() -> None:
    assert draw(17) == draw(17)
    assert str(draw(17)) == str(draw(17))
    assert len({str(draw(seed)) for seed in range(50)}) == 50


def drawn(*healing: str) -> list[Schedule]:
    return [draw(seed, Capabilities(frozenset(healing))) for seed in range(400)]


def test_all_sorts_of_faults_are_drawn() -> None:
    schedules = drawn(*PRESENT.resynchronises)
    assert {fault.sort for schedule in schedules for fault in schedule.faults} == set(SORTS)
    assert {schedule.proxies for schedule in schedules} == {1, 2, 3}
    assert {schedule.workers for schedule in schedules} == {1, 2, 3, 4}
    assert {schedule.replicas for schedule in schedules} == {1, 2, 3}


def test_the_survivor_is_left_alone_while_nobody_brings_backends_up_to_date() -> None:
    def touched(schedule: Schedule) -> bool:
        aimed = [
            each for each in schedule.faults if SORTS[each.sort].target in (Target.BACKEND, Target.ROUTE)
        ]
        return any(fault.backend == schedule.survivors[fault.shard] for fault in aimed)

    assert not any(map(touched, (each for each in drawn() if each.replicas > 1)))
    healing = [each for each in drawn("redis") if each.replicas > 1]
    assert any(map(touched, (each for each in healing if each.protocol == "redis")))
    assert not any(map(touched, (each for each in healing if each.protocol != "redis")))


def test_a_machine_may_lack_something_and_the_seeds_stay_the_same() -> None:
    schedules = drawn(*PRESENT.resynchronises)
    needs = [schedule.needs for schedule in schedules]
    assert {need for each in needs for need in each} == {"network", "clock"}
    assert needs.count(frozenset()) > len(needs) / 2


def test_a_refill_is_disturbed_only_after_a_kill_of_the_same_shard() -> None:
    for schedule in drawn(*PRESENT.resynchronises):
        for before, fault in itertools.pairwise(schedule.faults):
            if fault.during:
                assert schedule.resynchronises
                assert (before.sort, before.shard) == ("kill", fault.shard)
        assert not schedule.faults[0].during
