"""Names of the keys that proxies keep in the backends."""

from proxy.control.reserved import lease_key, reserved_keys
from proxy.control.view import RESERVED_PREFIX, view_key


def test_every_name_is_reserved_and_stands_once() -> None:
    names = reserved_keys("p", "s", ["s2", "s3"])
    assert len(set(names)) == len(names) == 8
    assert all(name.startswith(RESERVED_PREFIX) for name in names)
    assert {view_key("p", "s"), lease_key("p", "s"), "__shardproxy:blind:p/s3"} <= set(names)


def test_without_remap_nothing_is_about_absence() -> None:
    assert reserved_keys("p", "s") == reserved_keys("p", "s", [])[:4]
    assert lease_key("p", "s") == "__shardproxy:lease:p/s"
