"""The composition root: order of a start, draining, signals. Engine and controller are stand-ins."""

import importlib
import os
import resource
import signal
import socket
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from proxy.admin.client import fetch_status
from proxy.config import Loaded, parse
from proxy.errors import EngineError, ListenError

LIMIT_SECONDS = 5


class World:
    """What the stand-ins did, in order, and how they are to behave."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refuse = ""
        self.publish = True
        self.descriptors: list[int] = []
        self.ends = True


class FakeDataplane:
    version = "9.9"
    build_profile = "release"
    histogram_bounds_seconds = (1.0,)

    def __init__(self, config: Any) -> None:
        self._world: World = config["world"]
        if self._world.refuse:
            raise ValueError(self._world.refuse)
        # As the engine does: it keeps listening although the caller closes its own.
        self._copies = [os.dup(descriptor) for descriptor in self._world.descriptors]
        self._stopped = trio.Event()
        self._world.log.append("dataplane")

    def metrics(self) -> list[Any]:
        return []

    def statistics(self) -> list[Any]:
        return []

    def shutdown(self, grace_seconds: float) -> None:
        self._world.log.append(f"shutdown {grace_seconds:g}")
        for descriptor in self._copies:
            os.close(descriptor)
        if self._world.ends:
            self._stopped.set()

    async def wait_stopped(self) -> None:
        await self._stopped.wait()


class FakeController:
    def __init__(self, config: Any, dataplane: FakeDataplane, clock: Any) -> None:
        self._world = dataplane._world

    def status(self) -> Mapping[str, Any]:
        return {"pools": {}}

    def samples(self) -> Iterable[Any]:
        return ()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        self._world.log.append("controller")
        if self._world.publish:
            task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            self._world.log.append("controller ended")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch, world: World) -> Iterator[Any]:
    """`proxy.app`, imported on top of the stand-ins."""
    import proxy

    def engine_config(config: Any, descriptors: Mapping[str, list[int]]) -> Any:
        world.descriptors = [descriptor for pool in descriptors.values() for descriptor in pool]
        return {"world": world}

    fakes: dict[str, dict[str, Any]] = {
        "proxy.dataplane": {"Dataplane": FakeDataplane},
        "proxy.engine_config": {"engine_config": engine_config},
        "proxy.tasks": {},
        "proxy.tasks.controller": {"Controller": FakeController},
    }
    for name, contents in fakes.items():
        module = types.ModuleType(name)
        module.__dict__.update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "proxy.app", raising=False)
    yield importlib.import_module("proxy.app")
    # The next importer gets one on top of the real modules.
    sys.modules.pop("proxy.app", None)
    if hasattr(proxy, "app"):
        del proxy.app


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    return parse(
        f"""
        admin: {{listen: "127.0.0.1:0"}}
        workers: 1
        shutdown_grace: 250ms
        pools:
          p:
            protocol: redis
            listen: ["127.0.0.1:0", "unix:{tmp_path}/p.sock"]
            shards: [{{name: s, backends: ["127.0.0.1:1"]}}]
        """,
        "f.yaml",
    )


async def until(condition: Callable[[], bool]) -> None:
    """Within the caller's ``fail_after``."""
    while not condition():  # noqa: ASYNC110  (what is waited for happens in the code under test)
        await trio.sleep(0.001)


async def ready_code(address: str) -> int:
    async with httpx.AsyncClient() as client:
        return (await client.get(f"http://{address}/readyz")).status_code


def test_start_serve_and_drain_in_order(app: Any, world: World, loaded: Loaded, tmp_path: Path) -> None:
    listeners = app.bind_listeners(loaded.config)
    pool = listeners.pools["p"][0].address

    async def main() -> None:
        with trio.fail_after(LIMIT_SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(app.run, loaded, listeners))
                assert world.log == ["dataplane", "controller"]
                assert await ready_code(listeners.admin.address) == 200
                assert (await trio.to_thread.run_sync(fetch_status, listeners.admin.address))[1] == {
                    "pools": {}
                }
                host, port = pool.split(":")
                await (await trio.open_tcp_stream(host, int(port))).aclose()
                os.kill(os.getpid(), signal.SIGTERM)
        # The address is refused at once, not left in a queue that nobody reads.
        with pytest.raises(OSError, match=r"refused|all attempts"):
            await trio.open_tcp_stream(host, int(port))

    assert app.run_to_exit_code(main) == 0
    listeners.close()
    assert world.log == ["dataplane", "controller", "shutdown 0.25", "controller ended"]
    assert not (tmp_path / "p.sock").exists()


def test_not_ready_before_the_first_table_and_a_signal_ends_the_wait(
    app: Any, world: World, loaded: Loaded
) -> None:
    world.publish = False
    listeners = app.bind_listeners(loaded.config)

    async def main() -> None:
        with trio.fail_after(LIMIT_SECONDS):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(app.run, loaded, listeners)
                await until(lambda: "controller" in world.log)
                assert await ready_code(listeners.admin.address) == 503
                os.kill(os.getpid(), signal.SIGINT)

    assert app.run_to_exit_code(main) == 0
    listeners.close()
    assert world.log == ["dataplane", "controller", "controller ended"]


def test_an_engine_that_does_not_stop_does_not_hold_the_process(
    app: Any, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.ends = False

    async def main() -> None:
        start = trio.current_time()
        await app._drain(FakeDataplane({"world": world}), 7.0)
        assert trio.current_time() - start == 7.0 + app.STOP_MARGIN_SECONDS

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert "did not stop in time" in caplog.text


def test_a_second_signal_ends_a_drain(app: Any, world: World, loaded: Loaded) -> None:
    world.ends = False
    listeners = app.bind_listeners(loaded.config)

    async def main() -> None:
        with trio.fail_after(LIMIT_SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(app.run, loaded, listeners))
                os.kill(os.getpid(), signal.SIGTERM)
                await until(lambda: world.log[-1] == "shutdown 0.25")
                assert await ready_code(listeners.admin.address) == 503
                os.kill(os.getpid(), signal.SIGTERM)

    assert app.run_to_exit_code(main) == 0
    listeners.close()


def test_a_hangup_is_noted_or_stops(
    app: Any, world: World, loaded: Loaded, caplog: pytest.LogCaptureFixture
) -> None:
    for stops in (False, True):
        listeners = app.bind_listeners(loaded.config)

        async def main(stops: bool = stops, listeners: Any = listeners) -> None:
            with trio.fail_after(LIMIT_SECONDS):
                async with trio.open_nursery() as nursery:
                    await nursery.start(partial(app.run, loaded, listeners, hangup_stops=stops))
                    os.kill(os.getpid(), signal.SIGHUP)
                    if not stops:
                        await until(lambda: "reload is not available" in caplog.text)
                        assert await ready_code(listeners.admin.address) == 200
                        os.kill(os.getpid(), signal.SIGTERM)

        assert app.run_to_exit_code(main) == 0
        listeners.close()


def test_an_engine_that_refuses_is_an_error_of_ours(app: Any, world: World, loaded: Loaded) -> None:
    world.refuse = "ack of pool 0"
    with pytest.raises(EngineError, match="the engine refused its configuration: ack of pool 0"):
        app.serve(loaded)


def test_a_taken_address_ends_before_anything_starts(app: Any, world: World, loaded: Loaded) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        admin = loaded.config.admin.model_copy(update={"listen": taken})
        config = loaded.config.model_copy(update={"admin": admin})
        with pytest.raises(ListenError, match=f"admin cannot listen on {taken}"):
            app.serve(Loaded(config, (), ""))
    assert world.log == []


def test_errors_of_ours_leave_their_groups_and_others_do_not(app: Any) -> None:
    async def fail(*errors: Exception) -> None:
        async with trio.open_nursery() as nursery:
            for error in errors:

                async def one(error: Exception = error) -> None:
                    raise error

                nursery.start_soon(one)

    with pytest.raises(EngineError, match="x"):
        app.run_to_exit_code(partial(fail, EngineError("x")))
    with pytest.raises(ExceptionGroup):
        app.run_to_exit_code(partial(fail, EngineError("x"), KeyError("a bug")))


def test_an_interrupt_before_anything_listens_for_it_is_no_traceback(app: Any) -> None:
    async def interrupted() -> None:
        async with trio.open_nursery():
            raise KeyboardInterrupt

    assert app.run_to_exit_code(interrupted) == 130


def test_the_limit_of_open_files_is_raised_to_what_the_configuration_needs(
    app: Any, loaded: Loaded, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # 10000 clients, and 1 backend with 1 worker.
    wanted = 10_000 + 3 + app.DESCRIPTORS_OF_OUR_OWN
    assert app.descriptors_wanted(loaded.config) == wanted
    infinity = resource.RLIM_INFINITY
    for (soft, hard), expected in {
        (1024, infinity): [(wanted, infinity)],
        (1024, 20_000): [(wanted, 20_000)],
        (1024, 4096): [(4096, 4096)],
        (20_000, 20_000): [],
        (infinity, infinity): [],
    }.items():
        done: list[tuple[int, int]] = []
        monkeypatch.setattr(resource, "getrlimit", lambda what, limits=(soft, hard): limits)
        monkeypatch.setattr(resource, "setrlimit", lambda what, limits, done=done: done.append(limits))
        caplog.clear()
        app.raise_descriptor_limit(loaded.config)
        assert done == expected
        assert ("fewer open files" in caplog.text) is (hard == 4096)
