"""The view protocol keeps its promises in every order of events, as far as its model goes (`tests/model`)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).resolve().parents[1] / "model"


@pytest.mark.slow
def test_every_instance_holds_or_breaks_as_it_should() -> None:
    cargo = shutil.which("cargo", path=f"{os.environ['PATH']}:{Path.home()}/.cargo/bin")
    assert cargo, "make test installs it"
    ran = subprocess.run(
        [cargo, "run", "--release", "--locked", "--quiet", "--", "quick"],
        cwd=MODEL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "FAIL" not in ran.stdout
    assert "holds" in ran.stdout
    assert "broken" in ran.stdout
