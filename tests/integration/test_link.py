"""Control connections: what a task that watches an idle one may not do to one in use."""

from functools import partial

import trio
import trio.testing

from proxy.tasks.link import Link, LinkError, Talk
from proxy.tasks.wire import Reply

ROUNDS = 40
"""trio runs tasks that wake together in random order; the wrong one comes first about every other time."""


class Server:
    """Answers every request with END, and closes its connections when told to."""

    def __init__(self) -> None:
        self.streams: list[trio.SocketStream] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        self.streams.append(stream)
        try:
            while await stream.receive_some(1000):
                await stream.send_all(b"END\r\n")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    def close_all(self) -> None:
        """At once, in the caller's turn."""
        while self.streams:
            self.streams.pop().socket.close()


async def ask(talk: Talk) -> list[Reply]:
    return await talk(b"get k\r\n", 1)


async def watch(link: Link) -> None:
    while True:
        await link.wait_lost()


def test_a_connection_closed_as_it_is_used_again() -> None:
    """The server's end is seen in the very turn in which an exchange takes the connection."""

    outcomes: list[str] = []

    async def ask_when(start: trio.Event, link: Link) -> None:
        await start.wait()
        try:
            replies = await link.exchange(ask, 5)
        except LinkError as error:
            outcomes.append(error.reason.value)
        else:
            outcomes.append(f"{len(replies)} reply")

    async def close_when(start: trio.Event, server: Server) -> None:
        await start.wait()
        server.close_all()

    async def main() -> None:
        server = Server()
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
            port = listeners[0].socket.getsockname()[1]
            link = Link(f"127.0.0.1:{port}", "memcached", None, 1.0)
            nursery.start_soon(watch, link)
            for _ in range(ROUNDS):
                await link.exchange(ask, 5)
                await trio.testing.wait_all_tasks_blocked()
                start = trio.Event()
                async with trio.open_nursery() as pair:
                    pair.start_soon(ask_when, start, link)
                    pair.start_soon(close_when, start, server)
                    await trio.testing.wait_all_tasks_blocked()
                    start.set()
            nursery.cancel_scope.cancel()
        link.close()

    trio.run(main)
    assert len(outcomes) == ROUNDS
    assert set(outcomes) <= {"1 reply", "eof", "reset"}
