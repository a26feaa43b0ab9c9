"""The `dimo` command. Heavy libraries are imported inside commands, so that `--help` answers at once."""

import sys
import traceback
from typing import Annotated

import click
import typer

from dags.commands import data, machine, release, trainer

app = typer.Typer(
    help="From video files to a motion-controlled video model: ingest, label, release, train, generate.\n\n"
    "Start with [bold]dimo doctor[/], then [bold]dimo demo[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (machine.doctor, machine.demo):
    app.command()(command)
for command in (data.ingest, data.label, data.caption, data.encode, data.status):
    app.command(rich_help_panel="Data")(command)
app.add_typer(release.app, name="release", rich_help_panel="Data")
for command in (trainer.train, trainer.generate, trainer.report):
    app.command(rich_help_panel="Training")(command)


@app.callback()
def common(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options of every command."""
    context.obj = {"debug": debug}


def main() -> None:
    """Run a command; one clear line on error, exit code 0 only when all is well."""
    try:
        code = app(standalone_mode=False)
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Abort:
        print("stopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except KeyboardInterrupt:
        print("stopped; what is finished is kept: run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        text = str(error).strip() or type(error).__name__
        print(f"error: {text}" + ("" if "--debug" in sys.argv else "  (--debug shows where)"), file=sys.stderr)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
