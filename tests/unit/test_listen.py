"""Listening sockets: bound or refused with a sentence, all of them or none."""

import socket
from pathlib import Path

import pytest

from proxy.errors import ListenError
from proxy.listen import bind, bind_all


def test_a_free_port_is_found_and_named() -> None:
    listener = bind("127.0.0.1:0", "pool p")
    port = listener.socket.getsockname()[1]
    assert listener.address == f"127.0.0.1:{port}"
    with socket.create_connection(("127.0.0.1", port), 1):
        pass
    listener.close()


def test_a_taken_port_is_an_error_that_names_owner_and_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        text = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ListenError) as caught:
            bind(text, "pool sessions")
    assert str(caught.value) == (
        f"pool sessions cannot listen on {text}: the address is in use: another process listens there"
    )
    assert caught.value.exit_code == 3


def test_an_address_of_another_machine() -> None:
    with pytest.raises(
        ListenError, match=r"^admin cannot listen on 192\.0\.2\.1:80: this machine has no such address"
    ):
        bind("192.0.2.1:80", "admin")


def test_all_or_none() -> None:
    first = bind("127.0.0.1:0", "x")
    first.close()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ListenError, match="pool b"):
            bind_all([(first.address, "pool a"), (taken, "pool b")])
    # What had been bound before the failure is free again.
    again = bind(first.address, "pool a")
    again.close()


def test_unix_sockets_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "p.sock"
    listener = bind(f"unix:{path}", "pool p")
    assert path.is_socket()
    with pytest.raises(ListenError, match="in use"):
        bind(f"unix:{path}", "pool q")
    # A killed process leaves its socket behind; the next one takes it over.
    listener.close()
    assert path.exists()
    second = bind(f"unix:{path}", "pool p")
    second.close()
    second.remove()
    assert not path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_text("precious")
    with pytest.raises(ListenError, match="in use"):
        bind(f"unix:{path}", "pool p")
    assert path.read_text() == "precious"


def test_a_missing_directory(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="directory of the socket does not exist"):
        bind(f"unix:{tmp_path}/no/p.sock", "pool p")
