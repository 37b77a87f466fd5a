"""Publish and subscribe: what one message to many subscribers costs the process that hands it out."""

import selectors
import threading
import time
from contextlib import ExitStack

from peers import DIRECT, OURS, Running, start
from scenarios import Layout
from support.raw import RawClient
from support.servers import cpu_seconds

SUBSCRIBERS = 100
MESSAGES = 5_000
PAYLOAD = b"m" * 32
CHANNEL = b"news"
LIMIT_SECONDS = 60.0

SUBSCRIBE = b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nnews\r\n"
SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
PUBLISH = b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nnews\r\n$32\r\n" + PAYLOAD + b"\r\n"
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$32\r\n" + PAYLOAD + b"\r\n"
AT_ONCE = 50
"""Messages published before their answers are read."""


def measure(subscribers: int = SUBSCRIBERS, messages: int = MESSAGES) -> dict[str, float]:
    """CPU in microseconds per delivered message, of this proxy and of one server alone."""
    facts: dict[str, float] = {}
    with ExitStack() as stack:
        for running in start(Layout(protocol="redis"), [DIRECT, OURS], stack):
            cpu, seconds = _fan_out(running, subscribers, messages)
            delivered = subscribers * messages
            facts[f"fanout_{running.name}_cpu_us"] = cpu / delivered * 1e6
            facts[f"fanout_{running.name}_per_second"] = delivered / seconds
    facts["fanout_cpu_ratio"] = facts[f"fanout_{OURS}_cpu_us"] / max(1e-9, facts[f"fanout_{DIRECT}_cpu_us"])
    return facts


def _fan_out(running: Running, subscribers: int, messages: int) -> tuple[float, float]:
    """CPU seconds of the process, and seconds until the last message was there.

    Raises:
        TimeoutError: messages are missing.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        left: dict[int, int] = {}
        for _ in range(subscribers):
            client = stack.enter_context(RawClient(running.port, timeout=LIMIT_SECONDS))
            client.send(SUBSCRIBE)
            client.read_exactly(len(SUBSCRIBED))
            client.socket.setblocking(False)
            selector.register(client.socket, selectors.EVENT_READ)
            left[client.socket.fileno()] = messages * len(MESSAGE)
        publisher = stack.enter_context(RawClient(running.port, timeout=LIMIT_SECONDS))
        before, began = cpu_seconds(running.process.pid), time.monotonic()
        thread = threading.Thread(target=_publish, args=(publisher, messages))
        thread.start()
        while left:
            if time.monotonic() > began + LIMIT_SECONDS:
                raise TimeoutError(f"{running.name}: {len(left)} subscribers miss messages")
            for key, _ in selector.select(1.0):
                count = len(key.fileobj.recv(1 << 20))  # type: ignore[union-attr]
                left[key.fd] -= count
                if left[key.fd] <= 0 or not count:
                    selector.unregister(key.fileobj)
                    del left[key.fd]
        seconds = time.monotonic() - began
        thread.join()
        return cpu_seconds(running.process.pid) - before, seconds


def _publish(publisher: RawClient, messages: int) -> None:
    for start_at in range(0, messages, AT_ONCE):
        count = min(AT_ONCE, messages - start_at)
        publisher.send(PUBLISH * count)
        for _ in range(count):
            publisher.read_line()
