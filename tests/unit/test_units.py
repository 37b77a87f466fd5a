"""Quantities, addresses and the number of CPUs: text in, numbers out."""

import pytest

from proxy.config.address import could_be_same, parse_address
from proxy.config.cpus import read_usable_cpus, usable_cpus
from proxy.config.units import format_duration, format_size, parse_duration, parse_share, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1s", 1),
        ("2m", 120),
        ("1.5 s", 1.5),
        ("1h", 3600),
        ("10us", 1e-5),
        (0, 0),
        ("0", 0),
        ("0s", 0),
    ],
)
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", [1, "1", "-1s", "1 S", "ms", "", None, True, [], "1s1s", "1e3s", "\u0663s", "9" * 16 + "s"]
)
def test_not_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64MiB", 64 << 20), ("4KiB", 4096), (17, 17), ("17", 17), ("1 GiB", 1 << 30), ("1.5KiB", 1536),
        ("10MB", 10**7), ("3B", 3),
    ],
)  # fmt: skip
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["64mib", "-1", "1.5", "0.3KiB", True, None, 1.0, "KiB", "1k"])
def test_not_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "share"), [(0.5, 0.5), ("50%", 0.5), (0, 0), (1, 1), ("100%", 1), ("0.25", 0.25)]
)
def test_shares(text: object, share: float) -> None:
    assert parse_share(text) == share


@pytest.mark.parametrize("text", [1.1, "101%", "-1%", "half", True, None, "5ms"])
def test_not_shares(text: object) -> None:
    with pytest.raises(ValueError, match="expected a share"):
        parse_share(text)


@pytest.mark.parametrize("text", ["0", "250ms", "1s", "1.5s", "90s", "2m", "1h", "10us"])
def test_durations_come_back_as_written(text: str) -> None:
    assert parse_duration(format_duration(parse_duration(text))) == pytest.approx(parse_duration(text))


def test_formats_use_the_largest_unit_that_fits() -> None:
    assert [format_duration(s) for s in (0, 0.25, 1.5, 120, 90, 7200)] == [
        "0",
        "250ms",
        "1.5s",
        "2m",
        "90s",
        "2h",
    ]
    assert [format_size(s) for s in (0, 1000, 4096, 64 << 20, 1 << 30)] == [
        "0",
        "1000",
        "4KiB",
        "64MiB",
        "1GiB",
    ]


@pytest.mark.parametrize(
    "text",
    ["127.0.0.1:6379", "[::1]:1", "cache-1.example.org:65535", "unix:/run/a.sock", "my_host:7", "a.b.:7"],
)
def test_addresses_come_back_as_written(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "h", ":1", "h:", "h:0", "h:65536", "h:01", "h:+1", "h:1x", "::1:1", "[::1]", "[x]:1", "1.2.3:4",
        "256.1.1.1:4", "h h:1", "-h:1", "h\n:1", "unix:", "unix:rel", "unix:/a\0b", "unix:/" + "x" * 107,
        "h:\u0663",
    ],
)  # fmt: skip
def test_not_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_address(text)


@pytest.mark.parametrize(
    ("listen", "other", "same"),
    [
        ("127.0.0.1:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "127.0.0.1:2", False),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "localhost:1", True),
        ("[::]:1", "127.0.0.1:1", True),
        ("0.0.0.0:1", "10.0.0.1:1", False),
        ("127.0.0.1:1", "localhost:1", True),
        ("127.0.0.1:1", "127.0.0.2:1", False),
        ("127.0.0.1:1", "10.0.0.1:1", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "127.0.0.1:1", False),
    ],
)
def test_addresses_that_could_meet(listen: str, other: str, same: bool) -> None:
    assert could_be_same(parse_address(listen), parse_address(other)) is same


# A cgroup tree as files; what is not listed does not exist.
V2_LIMITED = {
    "/sys/fs/cgroup/kubepods/pod/c/cpu.max": "150000 100000\n",
    "/sys/fs/cgroup/kubepods/cpu.max": "max 100000\n",
}
V2_ANCESTOR = {"/sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "/sys/fs/cgroup/a/cpu.max": "300000 100000\n"}
V1_LIMITED = {
    "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us": "250000\n",
    "/sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000\n",
}
V1_NAMESPACE = {
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}
V1_UNLIMITED = {
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("affinity", "cgroup", "files", "expected"),
    [
        (8, None, {}, 8),
        (8, "", {}, 8),
        (8, "0::/\n", {}, 8),
        (8, "0::/kubepods/pod/c\n", V2_LIMITED, 1),
        (8, "0::/a/b\n", V2_ANCESTOR, 3),
        (2, "0::/a/b\n", V2_ANCESTOR, 2),
        (8, "0::/../../other\n", {"/sys/fs/cgroup/cpu.max": "200000 100000"}, 2),
        (8, "4:memory:/m\n3:cpu,cpuacct:/docker/x\n", V1_LIMITED, 2),
        (8, "3:cpu,cpuacct:/docker/x\n", V1_NAMESPACE, 1),
        (8, "1:cpu:/\n", V1_UNLIMITED, 8),
        (8, "0::/\n", {"/sys/fs/cgroup/cpu.max": "rubbish"}, 8),
        (8, "0::/\n", {"/sys/fs/cgroup/cpu.max": "100000 0"}, 8),
        (8, "rubbish\n", {}, 8),
    ],
)
def test_cpus_are_the_least_of_affinity_and_quotas(
    affinity: int, cgroup: str | None, files: dict[str, str], expected: int
) -> None:
    assert usable_cpus(affinity, cgroup, files.get) == expected


def test_this_machine_has_a_cpu() -> None:
    assert read_usable_cpus() >= 1
