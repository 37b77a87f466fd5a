"""Backends of a memcached that is not installed, as it was recorded (`vectors/memcached/`).

The newest memcached is in no package of the distributions that the tests run on, so what it answered once is
played back. Where a newer one is there (SHARDPROXY_TEST_NEW_MEMCACHED), the recording of its version is
compared with it.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.memcached_script import answers, requests, session
from support.servers import NEWER_MEMCACHED, MemcachedServer, newer_memcached

RECORDINGS = Path(__file__).parents[1] / "vectors" / "memcached"
VERSIONS = sorted(path.stem for path in RECORDINGS.glob("*.json"))


def recording(version: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((RECORDINGS / f"{version}.json").read_text())
    return read


@pytest.mark.parametrize("version", VERSIONS)
def test_a_newer_server_is_answered_for_as_it_answers(version: str) -> None:
    """Through two replicas, of which one is then filled from the other."""
    recorded = recording(version)
    played = session(None, recorded["replicas"])
    for request, got, (asked, expected) in zip(requests(), played.answers, recorded["answers"], strict=True):
        assert request.decode("latin-1") == asked, "make the recording anew"
        assert got == expected, request
    assert not played.unknown, "asked of a backend what was not recorded: make the recording anew"
    assert played.heard == recorded["replicas"]


@pytest.mark.skipif(newer_memcached() is None, reason=f"{NEWER_MEMCACHED} names no newer memcached")
def test_the_recording_is_what_the_server_answers() -> None:
    program = newer_memcached()
    assert program is not None
    text = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout
    version = text.split()[1]
    if version not in VERSIONS:
        pytest.skip(f"there is no recording of memcached {version}")
    with MemcachedServer(program=program) as plain:
        assert answers(plain.port) == [answer for _, answer in recording(version)["answers"]]
