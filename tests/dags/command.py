"""Run `dimo` in this process, which saves the seconds that a new interpreter takes."""

import io
import signal
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from opendimo.dags.cli import main


@dataclass(frozen=True)
class Answer:
    """Exit code and output of a command."""

    returncode: int
    stdout: str
    stderr: str


def dimo(*args: str | Path) -> Answer:
    """Run a command in this process; return its exit code and output."""
    out, err = io.StringIO(), io.StringIO()
    handlers, code = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}, 0
    with patch.object(sys, "argv", ["dimo", *map(str, args)]), redirect_stdout(out), redirect_stderr(err):
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return Answer(code, out.getvalue(), err.getvalue())
