"""Queues of jobs: Celery, RQ, Huey and Dramatiq, each with a worker in this process or a child of it.

They were made for one server. Huey's and Dramatiq's keys can carry a hash tag in the queue's name or
namespace, and then work on any number of shards; Celery's and RQ's cannot, and want a pool with one shard.
The parts that end in ``_failover`` send one job after another while a leader is lost: each must be done, also
one that was on its way to a worker that waits for it.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from story import Story, eventually, run

JOBS = 20


def double(n: int) -> int:
    """The job of RQ, which looks it up by name in its worker."""
    return 2 * n


def note(port: int, key: str, value: str) -> None:
    """A job that leaves its value where the one who sent it looks for it."""
    import redis

    with redis.Redis(port=port) as client:
        client.set(key, value)


def go_on(story: Story, send: Callable[[str, str], Any], done: Callable[[str], str | None]) -> None:
    """`Story.go_on`, where a value is written once the job that was sent with it is done."""

    def write(key: str, value: str) -> None:
        send(key, value)
        eventually(lambda: done(key) == value)

    story.go_on(write, done)


def noted(story: Story) -> Callable[[str], str | None]:
    """What `note` has left under a key."""
    import redis

    client = redis.Redis(port=story.port, decode_responses=True)
    return client.get


class Complaints(logging.Handler):
    """Errors that a worker in this process logs instead of raising them, in a block that must see none."""

    def __init__(self, logger: str) -> None:
        super().__init__(logging.ERROR)
        self._logger = logging.getLogger(logger)
        self._seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self._seen.append(self.format(record))

    def __enter__(self) -> None:
        self._logger.addHandler(self)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._logger.removeHandler(self)
        assert kind is not None or not self._seen, self._seen


def celery_app(port: int) -> Any:
    from celery import Celery

    url = f"redis://127.0.0.1:{port}/0"
    app = Celery("queues", broker=url, backend=url)
    app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)

    @app.task(name="double", bind=True, max_retries=2, default_retry_delay=0.1)
    def work(self: Any, n: int) -> int:
        if n < 0 and self.request.retries == 0:
            raise self.retry(exc=ValueError(n))
        return 2 * n

    app.task(name="note")(note)
    return app


@contextmanager
def working(command: list[str]) -> Iterator[None]:
    """With a worker in a process of its own meanwhile."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL) as worker:
        try:
            yield
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)


def celery_working(story: Story) -> AbstractContextManager[None]:
    return working([sys.executable, __file__, str(story.port), "celery_worker", story.prefix])


def celery(story: Story) -> None:
    from celery import group

    app = celery_app(story.port)
    with celery_working(story):
        task = app.tasks["double"]
        results = [task.delay(n) for n in range(JOBS)]
        assert [r.get(timeout=40) for r in results] == [2 * n for n in range(JOBS)]
        assert group(task.s(n) for n in range(5))().get(timeout=40) == [0, 2, 4, 6, 8]
        assert task.delay(-1).get(timeout=40) == -2
        assert task.apply_async((3,), countdown=0.5).get(timeout=40) == 6
        assert app.control.ping(timeout=5), "the worker hears what is sent to all"


def celery_failover(story: Story) -> None:
    """Without waiting for results, which are published: a message may be lost with a leader."""
    task = celery_app(story.port).tasks["note"]
    with celery_working(story):
        go_on(story, lambda key, value: task.delay(story.port, key, value), noted(story))


def celery_worker(story: Story) -> None:
    celery_app(story.port).worker_main(
        ["worker", "--pool=threads", "--concurrency=2", "--loglevel=warning", "--without-mingle"]
    )


def rq(story: Story) -> None:
    import redis
    from rq import Queue, SimpleWorker

    connection = redis.Redis(port=story.port)
    queue = Queue(story.prefix, connection=connection)
    jobs = [queue.enqueue("queues.double", n) for n in range(JOBS)]
    sys.path.insert(0, str(Path(__file__).parent))
    assert SimpleWorker([queue], connection=connection).work(burst=True)
    assert [job.return_value() for job in jobs] == [2 * n for n in range(JOBS)]
    failing = queue.enqueue("queues.nosuch", 1)
    SimpleWorker([queue], connection=connection).work(burst=True)
    assert failing.is_failed
    # And one that waits for work, in a process of its own: it blocks until there is some.
    with rq_working(story):
        later = queue.enqueue("queues.double", 21)
        eventually(lambda: later.get_status(refresh=True) == "finished", within=30)
        assert later.return_value() == 42


def rq_working(story: Story, *options: str) -> AbstractContextManager[None]:
    url = f"redis://127.0.0.1:{story.port}"
    # It would write some lines for each job, on the output that the story and the test talk by.
    return working([sys.executable, "-m", "rq.cli", "worker", "-u", url, "--quiet", *options, story.prefix])


def rq_failover(story: Story) -> None:
    """With a worker that runs jobs itself: a fork for each would take most of the time."""
    import redis
    from rq import Queue

    queue = Queue(story.prefix, connection=redis.Redis(port=story.port))
    with rq_working(story, "--worker-class", "rq.SimpleWorker"):
        go_on(story, lambda *what: queue.enqueue("queues.note", story.port, *what), noted(story))
    assert queue.failed_job_registry.count == 0


def huey(story: Story) -> None:
    from huey import PriorityRedisHuey, RedisHuey

    for kind in (RedisHuey, PriorityRedisHuey):
        app = kind(f"{{{story.prefix}{kind.__name__}}}", host="127.0.0.1", port=story.port)
        work = app.task()(double)
        consumer = app.create_consumer(workers=2, periodic=False)
        consumer.start()
        try:
            results = [work(n) for n in range(JOBS)]
            assert [r.get(blocking=True, timeout=40) for r in results] == [2 * n for n in range(JOBS)]
            later = work.schedule(args=(4,), delay=1)
            assert later.get(blocking=True, timeout=40) == 8
            with app.lock_task("one"):
                assert app.is_locked("one")
        finally:
            consumer.stop(graceful=True)


def huey_failover(story: Story) -> None:
    from huey import RedisHuey

    app = RedisHuey(f"{{{story.prefix}}}", host="127.0.0.1", port=story.port)
    done: dict[str, str] = {}

    @app.task()
    def work(key: str, value: str) -> None:
        done[key] = value

    consumer = app.create_consumer(workers=2, periodic=False)
    with Complaints("huey"):
        consumer.start()
        try:
            go_on(story, work, done.get)
        finally:
            consumer.stop(graceful=True)


def dramatiq_broker(story: Story) -> Any:
    import dramatiq
    from dramatiq.brokers.redis import RedisBroker
    from dramatiq.results import Results
    from dramatiq.results.backends.redis import RedisBackend

    place = {"host": "127.0.0.1", "port": story.port}
    broker = RedisBroker(namespace=f"{{{story.prefix}}}", **place)
    broker.add_middleware(Results(backend=RedisBackend(namespace=f"{{{story.prefix}}}", **place)))
    dramatiq.set_broker(broker)
    return broker


def dramatiq(story: Story) -> None:
    import dramatiq

    broker = dramatiq_broker(story)
    failed = threading.Event()

    @dramatiq.actor(store_results=True, min_backoff=50, max_retries=3)
    def work(n: int) -> int:
        if n < 0 and not failed.is_set():
            failed.set()
            raise ValueError(n)
        return 2 * n

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
    worker.start()
    try:
        messages = [work.send(n) for n in range(JOBS)]
        assert [m.get_result(block=True, timeout=40_000) for m in messages] == [2 * n for n in range(JOBS)]
        assert work.send(-1).get_result(block=True, timeout=40_000) == -2
        assert work.send_with_options(args=(5,), delay=300).get_result(block=True, timeout=40_000) == 10
        broker.join("default", timeout=40_000)
    finally:
        worker.stop()


def dramatiq_failover(story: Story) -> None:
    import dramatiq

    broker = dramatiq_broker(story)
    done: dict[str, str] = {}

    @dramatiq.actor(max_retries=0)
    def work(key: str, value: str) -> None:
        done[key] = value

    worker = dramatiq.Worker(broker, worker_timeout=100, worker_threads=2)
    with Complaints("dramatiq"):
        worker.start()
        try:
            go_on(story, work.send, done.get)
        finally:
            worker.stop()


if __name__ == "__main__":
    run(
        {
            "celery": celery,
            "celery_worker": celery_worker,
            "celery_failover": celery_failover,
            "rq": rq,
            "rq_failover": rq_failover,
            "huey": huey,
            "huey_failover": huey_failover,
            "dramatiq": dramatiq,
            "dramatiq_failover": dramatiq_failover,
        }
    )
