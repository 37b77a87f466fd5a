"""What is measured: one row per load. `bench/README.md` says why these."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """One load. ``sets``:``gets`` is the mix; ``replicas`` how many further backends get each write."""

    protocol: str
    clients: int
    pipeline: int
    sets: int = 1
    gets: int = 10
    replicas: int = 0
    value_bytes: int = 32

    @property
    def name(self) -> str:
        """Short and unique; what ``--only`` matches and results are filed under."""
        mix = f" {self.sets}:{self.gets}" if (self.sets, self.gets) != (1, 10) else ""
        copies = " replica" if self.replicas else ""
        return f"{self.protocol} c{self.clients} P{self.pipeline}{mix}{copies}"


SCENARIOS = [
    *(Scenario(protocol, 50, pipeline) for protocol in ("redis", "memcached") for pipeline in (1, 16, 64)),
    *(Scenario(protocol, 1, 1) for protocol in ("redis", "memcached")),
    # What copies cost: the same load without and with one, half of it writes.
    *(
        Scenario(protocol, 50, pipeline, gets=1, replicas=replicas)
        for protocol in ("redis", "memcached")
        for pipeline in (1, 16)
        for replicas in (0, 1)
    ),
]
