"""A second host: a network namespace that is connected to this one by a virtual cable, which can be cut."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

NAME = "dimo-two"
HERE, THERE = "10.77.0.1", "10.77.0.2"
RAY_PORT = 26379
WRONG = "02:00:00:00:00:01"
"""A hardware address that nobody has: packets to it are dropped as if the cable were cut."""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def can_have_namespaces() -> bool:
    """Return whether this process may make network namespaces."""
    try:
        made = subprocess.run(["ip", "netns", "add", f"{NAME}-probe"], check=False, capture_output=True)
    except FileNotFoundError:
        return False
    if made.returncode == 0:
        ip("netns", "delete", f"{NAME}-probe")
    return made.returncode == 0


@contextmanager
def cable() -> Iterator[None]:
    """Make a namespace at address `THERE`, connected to this one at address `HERE`."""
    ip("netns", "add", NAME)
    try:
        ip("link", "add", f"{NAME}-a", "type", "veth", "peer", "name", f"{NAME}-b", "netns", NAME)
        ip("address", "add", f"{HERE}/24", "dev", f"{NAME}-a")
        ip("-n", NAME, "address", "add", f"{THERE}/24", "dev", f"{NAME}-b")
        ip("link", "set", f"{NAME}-a", "up")
        for device in (f"{NAME}-b", "lo"):
            ip("-n", NAME, "link", "set", device, "up")
        yield
    finally:
        ip("netns", "delete", NAME)


def cut(seconds: float) -> None:
    """Drop all packets between the hosts for some seconds."""
    for where, peer, device in (([], THERE, "a"), (["-n", NAME], HERE, "b")):
        ip(*where, "neighbour", "replace", peer, "lladdr", WRONG, "dev", f"{NAME}-{device}", "nud", "permanent")
    time.sleep(seconds)
    for where, peer, device in (([], THERE, "a"), (["-n", NAME], HERE, "b")):
        ip(*where, "neighbour", "delete", peer, "dev", f"{NAME}-{device}")


@dataclass
class RayNode:
    """A process `ray start --block`, which `keep_running` starts again if it exits, as a container's restart policy."""

    log: Path
    options: list[str]
    there: bool
    starts: int = 0
    process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def keep_running(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        prefix = ["ip", "netns", "exec", NAME] if self.there else []
        command = [*prefix, sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *self.options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env=os.environ)
        self.starts += 1

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)


def nodes(folder: Path) -> tuple[RayNode, RayNode]:
    """Return the head on this host, which runs no work, and a node on the other one."""
    common = ["--disable-usage-stats"]
    head = ["--head", f"--port={RAY_PORT}", f"--node-ip-address={HERE}", "--num-cpus=0", "--include-dashboard=false"]
    other = [f"--address={HERE}:{RAY_PORT}", f"--node-ip-address={THERE}", "--num-cpus=2"]
    memory = [f"--object-store-memory={128 << 20}"]
    return (
        RayNode(folder / "head.log", [*head, *memory, *common], False),
        RayNode(folder / "node.log", [*other, *memory, *common], True),
    )
