"""The composition root: builds everything, starts it in order, stops it in reverse.

Order of a start: addresses are bound (a taken one ends here, nothing has started), admin answers
(``/readyz`` says 503), the controller asks the backends and starts the engine with the first routing
table, ``/readyz`` says 200. SIGTERM or SIGINT drains: no new clients, requests in flight finish, at
most ``shutdown_grace``; a second signal ends at once. Called by ``cli`` and ``demo``; nothing imports it.
"""

import resource
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import partial

import trio

from proxy import listen
from proxy.admin import server
from proxy.admin.metrics import Info, ShardproxyCollector, registry
from proxy.admin.server import Lifecycle, Phase
from proxy.config import Config, Loaded
from proxy.dataplane import Dataplane
from proxy.engine_config import engine_config
from proxy.errors import EngineError, ShardproxyError
from proxy.listen import Listener
from proxy.log import Log
from proxy.tasks.controller import Controller

# The engine closes what is left when the grace is over; this is for its last loop turn and the event.
STOP_MARGIN_SECONDS = 1.0
# Listeners, epoll and event descriptors, the admin server's connections, files of Python's.
DESCRIPTORS_OF_OUR_OWN = 256
# What shells report for a process that SIGINT ended: 128 + 2.
INTERRUPTED = 130

_log = Log("app")


@dataclass(frozen=True, slots=True)
class Listeners:
    """Every bound socket of a process: one for admin, and those of each pool by name."""

    admin: Listener
    pools: dict[str, list[Listener]]

    def __iter__(self) -> Iterator[Listener]:
        yield self.admin
        for listeners in self.pools.values():
            yield from listeners

    def close(self) -> None:
        """Gives the addresses back; harmless when done twice."""
        for listener in self:
            listener.close()
            listener.remove()


def bind_listeners(config: Config) -> Listeners:
    """Binds every address of the configuration, or none.

    Raises:
        ListenError: names the pool and the address.
    """
    wanted = [(config.admin.listen, "admin")]
    wanted += [(text, f"pool {name}") for name, pool in config.pools.items() for text in pool.listen]
    admin, *rest = listen.bind_all(wanted)
    pools = {name: [rest.pop(0) for _ in pool.listen] for name, pool in config.pools.items()}
    return Listeners(admin, pools)


def descriptors_wanted(config: Config) -> int:
    """How many files the configured limits may hold open: clients, backend connections, our own."""
    clients = sum(pool.limits.clients for pool in config.pools.values())
    backends = sum(len(shard.backends) for pool in config.pools.values() for shard in pool.shards)
    # One connection per worker and backend, one per prober, which may make a second while it reconnects.
    return clients + backends * (config.workers + 2) + DESCRIPTORS_OF_OUR_OWN


def raise_descriptor_limit(config: Config) -> None:
    """Lets `descriptors_wanted` files be open, or as many as the hard limit allows, and then says so.

    Shells start programs with a soft limit of 1024, so the limit on clients in the configuration would
    not be the one that counts.
    """
    wanted = descriptors_wanted(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        if allowed < wanted:
            _log.warning("fewer open files are allowed than the limits need", wanted=wanted, allowed=allowed)


def serve(loaded: Loaded) -> int:
    """Runs until told to stop; what ``shardproxy run`` does. Returns the exit code.

    Raises:
        ListenError: an address cannot be listened on.
        EngineError: the engine refused to start.
    """
    listeners = bind_listeners(loaded.config)
    try:
        return run_to_exit_code(partial(run, loaded, listeners))
    finally:
        listeners.close()


def run_to_exit_code(main: Callable[[], Awaitable[object]]) -> int:
    """``trio.run`` whose nurseries' groups are unwrapped: an error of ours comes out as itself.

    Returns:
        0, or `INTERRUPTED` after a Ctrl-C that came before `run` listened for it.
    """
    try:
        trio.run(main)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseExceptionGroup as group:
        if group.split(KeyboardInterrupt)[1] is None:
            return INTERRUPTED
        ours, rest = group.split(ShardproxyError)
        if ours is None or rest is not None:
            raise
        raise _first(ours) from None
    return 0


def _first(group: BaseExceptionGroup[ShardproxyError]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def run(
    loaded: Loaded,
    listeners: Listeners,
    *,
    hangup_stops: bool = False,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves until a signal, then drains. ``task_status.started()`` when clients are served.

    Args:
        loaded: the configuration.
        listeners: bound by the caller, who also closes them.
        hangup_stops: whether SIGHUP (a closed terminal) stops the process instead of being noted.

    Raises:
        EngineError: the engine refused its configuration or could not start.
    """
    config, lifecycle = loaded.config, Lifecycle()
    raise_descriptor_limit(config)
    descriptors = {
        name: [listener.socket.fileno() for listener in pool] for name, pool in listeners.pools.items()
    }
    try:
        dataplane = Dataplane(engine_config(config, descriptors))
    except (ValueError, OSError) as error:
        raise EngineError(f"the engine refused its configuration: {error}") from error
    for name in listeners.pools:
        for listener in listeners.pools[name]:
            # The engine has its own copies. Ours would keep the address open after it has stopped
            # accepting, and clients would wait in a queue that nobody reads.
            listener.close()
    controller = Controller(config, dataplane, trio.current_time)
    collector = ShardproxyCollector(
        engine_metrics=dataplane.metrics(),
        histogram_bounds=dataplane.histogram_bounds_seconds,
        statistics=dataplane.statistics,
        source=controller,
        is_ready=lambda: lifecycle.is_ready,
        info=Info(dataplane.version, dataplane.build_profile, loaded.digest),
    )
    admin = server.make_app(controller, registry(collector), lifecycle, controller)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(_watch_signals, hangup_stops, lifecycle, stop, nursery.cancel_scope)
        await nursery.start(server.serve, admin, listeners.admin.socket)
        _log.info("admin listens", address=listeners.admin.address)
        await nursery.start(controller.run)
        lifecycle.phase = Phase.READY
        for name, pool in config.pools.items():
            for listener in listeners.pools[name]:
                _log.info("pool listens", pool=name, protocol=pool.protocol, address=listener.address)
        _log.info("serving", workers=config.workers, engine=dataplane.version, config=loaded.digest)
        task_status.started()
        await stop.wait()
        lifecycle.phase = Phase.DRAINING
        await _drain(dataplane, config.shutdown_grace_seconds)
        nursery.cancel_scope.cancel()
    _log.info("stopped")


async def _drain(dataplane: Dataplane, grace_seconds: float) -> None:
    _log.info("draining", grace_seconds=grace_seconds)
    dataplane.shutdown(grace_seconds)
    with trio.move_on_after(grace_seconds + STOP_MARGIN_SECONDS) as scope:
        await dataplane.wait_stopped()
    if scope.cancelled_caught:
        _log.error("the engine did not stop in time", seconds=grace_seconds + STOP_MARGIN_SECONDS)


async def _watch_signals(
    hangup_stops: bool,
    lifecycle: Lifecycle,
    stop: trio.Event,
    everything: trio.CancelScope,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """First signal: drain, or give up a start. Second: end now."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if number == signal.SIGHUP and not hangup_stops:
                _log.warning("reload is not available in this version; restart to change", signal=name)
            elif stop.is_set() or lifecycle.phase is Phase.STARTING:
                _log.info("ending at once", signal=name, phase=lifecycle.phase)
                everything.cancel()
            else:
                _log.info("stopping", signal=name)
                stop.set()
