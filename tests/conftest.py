"""Fixtures for all tests: real servers, the proxy in front of them, a seeded random generator.

The machinery is in ``support/``; the rules for tests are in README.md beside this file.
"""

import os
import random
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

# For `support`. Not in the package's own configuration: with --import-mode=importlib there is no
# `tests` package, so that the checkout can never be imported instead of an installed wheel.
sys.path.insert(0, str(Path(__file__).parent))
# For the modules of the benchmarks, which have tests too.
sys.path.append(str(Path(__file__).parent.parent / "bench"))

from support import process
from support.proxy_process import Config, ProxyProcess
from support.relay import Relay
from support.servers import MemcachedServer, RedisServer, has_program

MARKERS = (
    "nutcracker: compares with twemproxy, which must be installed (skipped otherwise)",
    "fault: kills, stops or cuts off servers",
)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if has_program("nutcracker"):
        return
    for item in items:
        if item.get_closest_marker("nutcracker"):
            item.add_marker(pytest.mark.skip(reason="nutcracker is not installed"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows the logs of the processes a failed test started."""
    report = yield
    if report.failed:
        for started in dict.fromkeys(process.started):
            report.sections.append((f"log of {started!r}", started.log_text() or "(empty)"))
    if call.when == "teardown":
        process.started.clear()
    return report


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    """Closes what is entered into it when the test ends, the last first."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_redis(resources: ExitStack) -> Callable[..., RedisServer]:
    """``start_redis(*arguments)``: one more redis-server for this test."""
    return lambda *arguments: resources.enter_context(RedisServer(*arguments))


@pytest.fixture
def start_memcached(resources: ExitStack) -> Callable[..., MemcachedServer]:
    """``start_memcached(*arguments)``: one more memcached for this test."""
    return lambda *arguments: resources.enter_context(MemcachedServer(*arguments))


@pytest.fixture
def redis_server(start_redis: Callable[..., RedisServer]) -> RedisServer:
    """A redis-server of this test's own."""
    return start_redis()


@pytest.fixture
def memcached_server(start_memcached: Callable[..., MemcachedServer]) -> MemcachedServer:
    """A memcached of this test's own."""
    return start_memcached()


@pytest.fixture
def start_proxy(resources: ExitStack) -> Callable[..., ProxyProcess]:
    """``start_proxy(config, *arguments)``: a proxy with this configuration, ready; see `ProxyProcess`."""

    def start(config: Config | str, *arguments: str, **options: object) -> ProxyProcess:
        return resources.enter_context(ProxyProcess(config, *arguments, **options))  # type: ignore[arg-type]

    return start


@pytest.fixture
def start_relay(resources: ExitStack) -> Callable[[int], Relay]:
    """``start_relay(port)``: a relay to the port that can be told to misbehave."""
    return lambda port: resources.enter_context(Relay(port))


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """A random generator; a failing test shows its seed, ``SHARDPROXY_TEST_SEED`` sets it."""
    seed = int(os.environ.get("SHARDPROXY_TEST_SEED") or random.SystemRandom().randrange(2**32))
    request.node.add_report_section("setup", "seed", f"to repeat: SHARDPROXY_TEST_SEED={seed}")
    return random.Random(seed)
