"""`dimo plan ...`: what the commands of the same names would do."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from opendimo.dags.commands import budget, data
from opendimo.dags.commands.execute import execute
from opendimo.dags.options import ExistingLake, Json, PolicyFile, Trial

app = typer.Typer(
    help="Show what a command would do: what is done already, what is left, time and disk by earlier runs.\n\n"
    "Takes the options of the command itself; writes nothing. Later stages are planned from what is stored now.\n\n"
    "Examples:\n\n"
    "dimo plan label --lake /data/lake\n\n"
    "dimo plan ingest internet urls.csv --lake /data/lake --sample 8",
    no_args_is_help=True,
)


Sample = Annotated[
    int, typer.Option(min=0, help="Where no run is known, do so many items for real, in a lake made for that.")
]
SampleMinutes = Annotated[float, typer.Option(min=0.01, help="Longest time for that, in minutes.")]


def trial(sample: Sample = 0, sample_minutes: SampleMinutes = 10.0) -> Trial:
    """How much may be tried for a forecast: options that every command has below `dimo plan`."""
    return Trial(sample, sample_minutes)


class PlanCommand(TyperCommand):
    """A command below `dimo plan`: it has the options of `trial` besides its own, and its context the trial."""

    def __init__(self, *args: Any, params: list[Any], **options: Any) -> None:
        options_of_trial = typer.Typer(add_completion=False)
        options_of_trial.command(add_help_option=False)(trial)
        self._trial_options = get_command(options_of_trial).params
        super().__init__(*args, params=[*params, *self._trial_options], **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command's function."""
        ctx.obj = trial(**{str(option.name): ctx.params.pop(option.name) for option in self._trial_options})
        return super().invoke(ctx)


for command in (data.ingest, data.label, data.caption, data.encode):
    app.command(cls=PlanCommand)(command)
app.command()(budget.train)


@app.command("all", cls=PlanCommand)
def everything(
    ctx: typer.Context,
    lake: ExistingLake,
    base: Annotated[str | None, typer.Option(help="Plan `dimo encode` as well, for this pretrained model.")] = None,
    policy: PolicyFile = None,
    json_: Json = False,
) -> None:
    """Plan all stages after `dimo ingest`, as their commands would run with no options but the policy.

    Example: dimo plan all --lake /data/lake --policy quality.toml
    """
    from opendimo.dags.requests import Caption, Cut, Encode, Label, Measure, Request
    from opendimo.pipelines.latents.stage import LatentsConfig
    from opendimo.pipelines.latents.windows import Window
    from opendimo.pipelines.quality.policy import policy_of

    limits = policy_of(policy)
    requests: list[Request] = [Cut(policy=limits), Measure(), Label(policy=limits), Caption(policy=limits)]
    if base:
        requests.append(Encode(LatentsConfig(base, Window(121, 1, 832, 480)), limits))
    execute(ctx, lake, requests, json_)
    if not base and not json_:
        print("`dimo encode` is not planned: give --base")
