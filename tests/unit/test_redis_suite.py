"""Of the runner of Redis' own tests: what it reads, and its list of differences."""

import pytest
from redis_suite.run import LAYOUTS, UNITS, Difference, Judge, matches, read_differences, read_output

OUTPUT = """\
[ready]: 4711
[ok]: SET and GET (an item) (3 ms)
[ignore]: DEBUG something: Tag: needs:repl denied
[err]: Wrong [order] in tests/unit/type/list.tcl
Expected 'a'
  to be 'b'
[skip]: Endless
[err]: (outside of tests) in tests/unit/type/list.tcl
no
[1/1 done]: unit/type/list (2 seconds)
                   The End

*** [err]: Wrong [order] in tests/unit/type/list.tcl
"""


def test_output_is_read() -> None:
    result = read_output("unit/type/list", OUTPUT.splitlines(keepends=True))
    assert result.passed == ["unit/type/list: SET and GET (an item)"]
    assert result.ignored == 2
    assert list(result.failed) == ["unit/type/list: Wrong [order]", "unit/type/list: (outside of tests)"]
    assert result.failed["unit/type/list: Wrong [order]"] == "Expected 'a'\n  to be 'b'\n"
    cut = read_output("unit/quit", ["[exception]: Executing test client: refused.\n", "[TIMEOUT]: report\n"])
    assert list(cut.failed) == ["unit/quit: exception", "unit/quit: TIMEOUT"]


def test_only_known_failures_pass(capsys: pytest.CaptureFixture[str]) -> None:
    layout = LAYOUTS["1x1"]
    result = read_output("unit/type/list", OUTPUT.splitlines(keepends=True))
    known = Difference("so it is", ["unit/type/list: Wrong [order]", "unit/type/list: SET and GET (an item)"])
    rest = Difference("elsewhere", ["unit/type/list: (outside *"], layouts=["3x2"])
    judge = Judge([known, rest])
    assert judge.judge(layout, "unit/type/list", result) == (1, 1)
    assert judge.unknown == ["1x1 unit/type/list: (outside of tests)"]
    assert "PASSES 1x1 unit/type/list: SET and GET (an item)" in capsys.readouterr().out
    assert judge.unmet() == [known.tests[1], rest.tests[0]]
    assert judge.judge(LAYOUTS["3x2"], "unit/type/list", result) == (0, 2)
    assert judge.judge(layout, "unit/quit", read_output("unit/quit", [])) == (0, 0)
    assert judge.unknown[1:] == ["1x1 unit/quit"], "a unit that tells nothing has failed"


def test_patterns_have_no_letters_but_the_star() -> None:
    assert matches("unit/a: x [1-3]? *", "unit/a: x [1-3]? and so on")
    assert not matches("unit/a: x [1-3]", "unit/a: x 2")
    assert not matches("unit/a: x?", "unit/a: xy")


def test_the_written_list_can_be_used() -> None:
    for each in read_differences():
        assert each.reason.endswith(".")
        assert set(each.layouts) <= set(LAYOUTS)
        for pattern in each.tests:
            unit, _, name = pattern.partition(": ")
            assert unit.removeprefix("unit/") in UNITS, pattern
            assert name
            assert not (each.left_out and "*" in name), f"to be left out it must be named: {pattern}"
