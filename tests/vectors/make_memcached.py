"""Records what a newer memcached answers to a proxy, for those who have none.

Run: ``python tests/vectors/make_memcached.py PROGRAM``, in the tests' environment. Writes
``memcached/VERSION.json``: what a plain server answers to the requests of ``support/memcached_script.py``,
and what passes between a proxy and each of two replicas while it is asked them and fills one from the other.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from support.memcached_script import answers, requests, session  # noqa: E402
from support.servers import MemcachedServer  # noqa: E402


def make(program: str) -> dict[str, object]:
    """The recording of one program."""
    with MemcachedServer(program=program) as plain:
        expected = answers(plain.port)
    asked = [request.decode("latin-1") for request in requests()]
    heard = session(program).heard
    return {"answers": list(zip(asked, expected, strict=True)), "replicas": heard}


def main() -> None:
    """Writes the file of the program that is named."""
    (program,) = sys.argv[1:]
    version = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout.split()[1]
    text = json.dumps(make(program), indent=1, sort_keys=True)
    (HERE / "memcached" / f"{version}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
