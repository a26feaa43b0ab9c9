"""The `dimo` command. Heavy libraries are imported inside the commands to keep `--help` fast."""

import errno
import logging
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated, Any

import typer

from opendimo.dags.commands import (
    captions,
    data,
    evaluate,
    generate,
    machine,
    operate,
    overlay,
    plan,
    release,
    status,
    trainer,
    upkeep,
)
from opendimo.storage_schemas.lake.unreadable import SOURCE_LINE
from opendimo.training.result import TrainingStopped

app = typer.Typer(
    help="Build datasets for, train and run a motion-controlled video diffusion model (3DiMo).\n\n"
    "Start with [bold]dimo doctor[/], then [bold]dimo demo[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str | None, tuple[Callable[..., None], ...]] = {
    None: (machine.doctor, machine.demo),
    "Data": (data.ingest, data.label, data.caption, data.encode, overlay.overlay, status.status, status.retry),
    "Operation": (operate.serve,),
    "Maintenance": (upkeep.sources, upkeep.tables, upkeep.clean, upkeep.takedown, upkeep.migrate),
    "Training": (trainer.train, generate.generate, evaluate.evaluate, trainer.push, trainer.report),
}
for panel, members in COMMANDS.items():
    for command in members:
        app.command(rich_help_panel=panel)(command)
app.add_typer(plan.app, name="plan", rich_help_panel="Data")
app.add_typer(captions.app, name="captions", rich_help_panel="Data")
app.add_typer(release.app, name="release", rich_help_panel="Data")


@app.callback()
def common(debug: Annotated[bool, typer.Option("--debug", help="Print the traceback on error.")] = False) -> None:
    """Declare the global options. `main` reads --debug from `sys.argv`, since it handles errors outside the app."""


def main() -> None:
    """Run a command. On error, print one line to stderr and exit with code 1; after a signal with 128 + its number."""
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # harmless: every fork here execs immediately
    logging.raiseExceptions = False  # Prefect would print each log line that it could not send, after our message
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        """End the process by an exception, so that workers and servers are stopped."""
        received.append(number)
        print(f"stopped by {signal.Signals(number).name}; run the same command to go on", file=sys.stderr)
        sys.exit(128 + number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        app()
    except SystemExit:
        if received:  # `ray.wait` replaces the exit code by 1
            sys.exit(128 + received[-1])
        raise
    except TrainingStopped as stopped:
        print(f"{stopped}; run the same command to go on", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except Exception as error:
        debug = "--debug" in sys.argv
        if debug:
            traceback.print_exc()
        message = _message(error)
        expected = isinstance(error, (ValueError, OSError, KeyError))  # these are caused by user input
        internal = not expected and _server_error(error) is None
        hint = "  (`dimo --debug ...` prints the traceback)" if internal and not debug else ""
        print(f"error: {message}{hint}", file=sys.stderr)
        sys.exit(1)


def _message(error: Exception) -> str:
    """Return what to print: which service or file failed, without locations in the source code of Lance."""
    cause = getattr(error, "cause", None)  # of an error of a Ray worker, whose own text is a traceback
    if isinstance(cause, Exception):
        error = cause
    text = SOURCE_LINE.sub("", str(error).strip()) or type(error).__name__
    if (server_error := _server_error(error)) is not None:
        url, answer = server_error.request.url, getattr(server_error, "response", None)
        problem = f"does not answer: {server_error}" if answer is None else f"fails with status {answer.status_code}"
        advice = "finished work is kept: see the log and the disk of the server, then run the same command to go on"
        return f"the Prefect server at {url.scheme}://{url.netloc.decode()} {problem}; {advice}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{text}: free space, then run the same command to go on"
    if text.startswith("Not found: ") and ".lance/" in text:
        return (
            f"{text}: restore this file of the lake from a copy; `dimo doctor --lake LAKE` names all that are missing"
        )
    return text


def _server_error(error: BaseException | None) -> Any:
    """Return the `httpx.HTTPError` of a request to the Prefect server that an error is or was caused by, if any."""
    if type(error).__module__.partition(".")[0] not in ("httpx", "prefect"):  # others use httpx for other servers
        return None
    while error is not None and type(error).__module__.partition(".")[0] != "httpx":  # importing it takes time
        error = error.__cause__
    return error
