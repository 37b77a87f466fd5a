"""Layers import one way only, and dangerous things live in one place. Read from the source alone."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "proxy"
CRATE = PACKAGE / "engine" / "src"

# Left may be imported by right, never the other way. A name stands for the module and all below it.
PYTHON_LAYERS = (
    {"proxy.errors", "proxy.log"},
    {"proxy.control.naming"},
    {"proxy.config"},
    {"proxy.control.model"},
    {"proxy.control.view", "proxy.control.fence"},
    {"proxy.control.absence"},
    {"proxy.control.reserved"},
    {"proxy.control.event", "proxy.control.pools"},
    {"proxy.control.failover", "proxy.control.state"},
    {"proxy.control.finding"},
    {"proxy.control.quorum", "proxy.control.succession"},
    {"proxy.control.remap"},
    {"proxy.control.routing"},
    {"proxy.control.transitions", "proxy.control.resync", "proxy.control.proposal"},
    {"proxy.control.following", "proxy.control.copying"},
    {"proxy.control.memcached_copying", "proxy.control.redis_copying"},
    {"proxy.control.shard"},
    {"proxy._engine"},
    {"proxy.dataplane", "proxy.engine_config", "proxy.placement"},
    {"proxy.tasks.wire"},
    {"proxy.tasks.link"},
    {
        "proxy.tasks.prober",
        "proxy.tasks.views",
        "proxy.tasks.status",
        "proxy.tasks.hold",
    },
    {"proxy.tasks.lease"},
    {"proxy.tasks.job"},
    {"proxy.tasks.following", "proxy.tasks.memcached_copying", "proxy.tasks.redis_copying"},
    {"proxy.tasks.copying"},
    {"proxy.tasks.swap"},
    {"proxy.tasks.keyspace"},
    {"proxy.tasks.resync", "proxy.tasks.remap"},
    {"proxy.tasks.controller"},
    {"proxy.listen"},
    {"proxy.admin.metrics"},
    {"proxy.admin.client"},
    {"proxy.admin.server"},
    {"proxy.app"},
    {"proxy.demo"},
    {"proxy.cli"},
    {"proxy.__main__"},
)
NO_WORLD = {"trio", "socket", "time", "random", "logging", "os", "asyncio", "threading"}
ENGINE_IMPORTERS = {"proxy.dataplane", "proxy.engine_config", "proxy.placement"}

RUST_LAYERS = (
    {"sys", "error", "buf", "slab"},
    {"hash"},
    {"proto"},
    {"command"},
    {"ring"},
    {"route"},
    {"stats"},
    {"conn"},
    {"worker"},
    {"engine"},
    {"py"},
    {"bin"},
)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(name: str) -> set[str]:
    """Every module that is named in an import, also inside functions and under TYPE_CHECKING."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            base = node.module or ""
            known = [f"{base}.{alias.name}" for alias in node.names]
            is_module = [each in MODULES or each == "proxy._engine" for each in known]
            found |= {each if is_one else base for each, is_one in zip(known, is_module, strict=True)}
    return found


def entry_of(name: str) -> str | None:
    """The entry of the list that stands for a Python module."""
    entries = (each for layer in PYTHON_LAYERS for each in layer)
    return next((each for each in entries if name == each or name.startswith(each + ".")), None)


def layer_of(name: str, layers: tuple[set[str], ...]) -> int | None:
    for position, layer in enumerate(layers):
        if any(name == each or name.startswith(each + ".") for each in layer):
            return position
    return None


def test_there_is_something_to_check() -> None:
    assert {"proxy.control.shard", "proxy.tasks.controller"} <= set(MODULES)


@pytest.mark.parametrize("name", [name for name in MODULES if "." in name])
def test_python_imports_one_way(name: str) -> None:
    if name in ("proxy.control", "proxy.tasks", "proxy.admin"):
        assert not imports(name), "a package of layers imports none of them"
        return
    own = layer_of(name, PYTHON_LAYERS)
    assert own is not None, f"{name} stands in no layer; add it where it belongs"
    for other in imports(name):
        if not other.startswith("proxy."):
            continue
        theirs = layer_of(other, PYTHON_LAYERS)
        assert theirs is not None, f"{name} imports {other}, which stands in no layer"
        assert theirs < own or entry_of(other) == entry_of(name), f"{name} must not import {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("proxy.control.")])
def test_what_decides_does_not_touch_the_world(name: str) -> None:
    assert not {each.partition(".")[0] for each in imports(name)} & NO_WORLD


@pytest.mark.parametrize("name", list(MODULES))
def test_only_the_seam_imports_the_engine(name: str) -> None:
    assert "proxy._engine" not in imports(name) or name in ENGINE_IMPORTERS


def rust_sources() -> dict[str, str]:
    """Source text by path below ``src/``, comments taken out."""
    found = {}
    for path in sorted(CRATE.rglob("*.rs")):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.S)
        found[str(path.relative_to(CRATE))] = re.sub(r"//[^\n]*", "", text)
    return found


RUST = rust_sources()


def rust_uses(text: str) -> set[str]:
    """Top-level modules of the crate that are named by ``crate::``, in braces as well."""
    found = set(re.findall(r"\bcrate::([a-z_]+)", text))
    for group in re.findall(r"\bcrate::\{(.*?)\};", text, flags=re.S):
        depth, item = 0, ""
        for letter in group + ",":
            depth += {"{": 1, "}": -1}.get(letter, 0)
            if letter == "," and depth == 0:
                found |= set(re.findall(r"^\s*([a-z_]+)", item))
                item = ""
            else:
                item += letter
    return found


def test_rust_uses_are_read_from_braces_too() -> None:
    text = "use crate::{proto::{resp, memcache}, ring};\nuse crate::sys::epoll; fn f() { crate::py::g() }"
    assert rust_uses(text) == {"proto", "ring", "sys", "py"}


@pytest.mark.parametrize("path", [path for path in RUST if path != "lib.rs"])
def test_rust_uses_one_way(path: str) -> None:
    if path.endswith("tests.rs") or "/tests/" in path:
        pytest.skip("tests may use whatever they need")
    module = path.partition("/")[0].removesuffix(".rs")
    own = layer_of(module, RUST_LAYERS)
    assert own is not None, f"{module} stands in no layer; add it where it belongs"
    body = RUST[path].partition("#[cfg(test)]")[0]
    for other in rust_uses(body) - {module}:
        theirs = layer_of(other, RUST_LAYERS)
        if theirs is None:
            continue  # a macro or an item of the crate's root
        assert theirs <= own, f"{path} must not use crate::{other}"


@pytest.mark.parametrize("path", list(RUST))
def test_unsafe_only_in_sys(path: str) -> None:
    uses = re.findall(r"\bunsafe\b(?!_code)", RUST[path])
    assert path.startswith("sys") or not uses, f"{path} has unsafe code"


@pytest.mark.parametrize("path", list(RUST))
def test_pyo3_only_in_py(path: str) -> None:
    assert path.startswith("py") or not re.search(r"\bpyo3\b", RUST[path]), f"{path} names pyo3"
