"""`dimo plan ...`: forecast what the commands of the same names would do."""

from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command

from opendimo.dags.commands import budget, data
from opendimo.dags.commands.execute import execute
from opendimo.dags.options import ExistingLake, Json, PolicyFile, Trial

app = typer.Typer(
    help="Dry run of a command: finished and remaining work, with estimated time and disk space.\n\n"
    "Takes the options of the command and writes nothing. Estimates come from earlier runs in the lake. "
    "Later stages are planned from the data stored now.\n\n"
    "Examples:\n\n"
    "dimo plan label --lake /data/lake\n\n"
    "dimo plan ingest internet urls.csv --lake /data/lake --sample 8",
    no_args_is_help=True,
)


Sample = Annotated[
    int,
    typer.Option(min=0, help="For stages without an earlier run, process this many items in a temporary lake."),
]
SampleMinutes = Annotated[float, typer.Option(min=0.01, help="Time limit for --sample, in minutes.")]


def trial(sample: Sample = 0, sample_minutes: SampleMinutes = 10.0) -> Trial:
    """Return the trial limits; its parameters become options of every command under `dimo plan`."""
    return Trial(sample, sample_minutes)


class PlanCommand(TyperCommand):
    """A command under `dimo plan`: accepts the options of `trial` as well, and stores the `Trial` in `ctx.obj`."""

    def __init__(self, *args: Any, params: list[Any], **options: Any) -> None:
        trial_app = typer.Typer(add_completion=False)
        trial_app.command(add_help_option=False)(trial)
        self._trial_options = get_command(trial_app).params
        super().__init__(*args, params=[*params, *self._trial_options], **options)

    def invoke(self, ctx: Any) -> Any:
        """Store the `Trial` in the context, and call the function of the command."""
        ctx.obj = trial(**{str(option.name): ctx.params.pop(option.name) for option in self._trial_options})
        return super().invoke(ctx)


for command in (data.ingest, data.label, data.caption, data.encode):
    app.command(cls=PlanCommand)(command)
app.command()(budget.train)


@app.command("all", cls=PlanCommand)
def everything(
    ctx: typer.Context,
    lake: ExistingLake,
    base: Annotated[str | None, typer.Option(help="Also plan `dimo encode`, for this pretrained base model.")] = None,
    policy: PolicyFile = None,
    json_: Json = False,
) -> None:
    """Plan all stages after `dimo ingest`, with the default options of their commands except for the policy.

    Example: dimo plan all --lake /data/lake --policy quality.toml
    """
    from opendimo.dags.requests import Caption, Cut, Encode, Label, Measure, Request
    from opendimo.pipelines.engine.device import best_device
    from opendimo.pipelines.latents.stage import LatentsConfig
    from opendimo.pipelines.latents.windows import Window
    from opendimo.pipelines.quality.policy import policy_of

    thresholds = policy_of(policy)
    requests: list[Request] = [Cut(policy=thresholds), Measure(), Label(policy=thresholds), Caption(policy=thresholds)]
    if base:
        config = LatentsConfig(base, Window(121, 1, 832, 480), device=best_device())
        requests.append(Encode(config, thresholds))
    execute(ctx, lake, requests, json_)
    if not base and not json_:
        print("`dimo encode` is not planned: pass --base to include it")
