"""The `dimo` command. Heavy libraries are imported inside commands, so that `--help` answers at once."""

import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from opendimo.dags.commands import data, evaluate, generate, machine, plan, release, trainer, upkeep

app = typer.Typer(
    help="From video files to a motion-controlled video model: ingest, label, release, train, generate, evaluate.\n\n"
    "Start with [bold]dimo doctor[/], then [bold]dimo demo[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
SOURCE_LINE = re.compile(r", /\S+\.rs:\d+:\d+")  # Lance ends its messages with the place in its own source
COMMANDS: dict[str | None, tuple[Callable[..., None], ...]] = {
    None: (machine.doctor, machine.demo),
    "Data": (data.ingest, data.label, data.caption, data.encode, data.status, data.retry),
    "Upkeep": (upkeep.sources, upkeep.tables, upkeep.clean, upkeep.takedown, upkeep.migrate),
    "Training": (trainer.train, generate.generate, evaluate.evaluate, trainer.report),
}
for panel, members in COMMANDS.items():
    for command in members:
        app.command(rich_help_panel=panel)(command)
app.add_typer(plan.app, name="plan", rich_help_panel="Data")
app.add_typer(release.app, name="release", rich_help_panel="Data")


@app.callback()
def common(debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False) -> None:
    """Options of every command; `main` looks at --debug itself, because an error ends the command."""


def main() -> None:
    """Run a command; one clear line on error, exit code 0 only when all is well."""
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # whoever forks here executes at once
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started here is ended
    try:
        app()
    except Exception as error:
        debug = "--debug" in sys.argv
        if debug:
            traceback.print_exc()
        text = SOURCE_LINE.sub("", str(error).strip()) or type(error).__name__
        ours = not isinstance(error, (ValueError, OSError, KeyError))  # those speak of what the user gave
        print(f"error: {text}" + ("  (`dimo --debug ...` shows where)" if ours and not debug else ""), file=sys.stderr)
        sys.exit(1)
