"""A PostgreSQL server in a folder of its own, for a Prefect server."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from opendimo.dags.services import free_port

USER = "prefect"


def folder_of_programs() -> Path | None:
    """Return the folder of `initdb` and `pg_ctl`, also where Debian installs them, or None."""
    if found := shutil.which("pg_ctl"):
        return Path(found).resolve().parent
    return next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))), None)


@dataclass
class Postgres:
    """A server that listens on the loopback interface. PostgreSQL refuses to run as root, which becomes `nobody`."""

    programs: Path
    folder: Path
    port: int

    @property
    def url(self) -> str:
        """The address for Prefect."""
        return f"postgresql+asyncpg://{USER}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start the server and wait until it accepts connections; try again while a killed one still ends."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
        command = ["pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start"]
        for _ in range(30):
            if self._run(*command) == 0:
                return
            time.sleep(1)
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        """Send SIGKILL to the server."""
        os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        connection = await asyncpg.connect(self.url.replace("+asyncpg", ""))
        try:
            return [tuple(row) for row in await connection.fetch(query)]
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> int:
        user = {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        command = [str(self.programs / program), *arguments]
        return subprocess.run(command, cwd=self.folder, check=False, stdout=subprocess.DEVNULL, **user).returncode

    @classmethod
    @contextmanager
    def running(cls, programs: Path) -> Iterator["Postgres"]:
        """Create an empty database and run a server on it."""
        with tempfile.TemporaryDirectory(prefix="postgres-") as folder:
            if os.geteuid() == 0:
                shutil.chown(folder, "nobody")
            server = cls(programs, Path(folder), free_port())
            assert server._run("initdb", "-D", "data", "-U", USER, "--auth=trust", "-N") == 0
            server.start()
            try:
                yield server
            finally:
                with suppress(OSError):
                    server._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
