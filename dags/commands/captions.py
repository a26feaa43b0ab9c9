"""`dimo captions ...`: let people decide on captions whose estimators disagree."""

from pathlib import Path
from typing import Annotated

import typer

from opendimo.dags.options import ExistingLake, Json

app = typer.Typer(help="Review captions whose estimators disagree.", no_args_is_help=True)


@app.command()
def review(
    lake: ExistingLake,
    out: Annotated[Path, typer.Option(dir_okay=False, help="File to write: .csv or .jsonl.")],
    below: Annotated[float, typer.Option(min=0, help="List captions whose estimators agree by less than this.")] = 0.5,
    json_: Json = False,
) -> None:
    """Write the captions whose estimators disagree, the worst first, to a file for people or labelling tools to edit.

    Correct camera_terms and content_sentence, write anything into decided, and store these rows by `dimo captions
    decide`.

    Example: dimo captions review --lake /data/lake --out doubts.csv
    """
    from opendimo.dags.show import as_json
    from opendimo.pipelines.captions.review import doubtful, write
    from opendimo.storage_schemas.lake.lake import Lake

    rows = doubtful(Lake(lake, existing=True), below)
    write(rows, out)
    if json_:
        return as_json({"captions": len(rows), "file": str(out)})
    return print(f"{len(rows)} captions to review in {out}")


@app.command()
def decide(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="File of `dimo captions review`, edited.")],
    lake: ExistingLake,
    by: Annotated[str, typer.Option("--by", help="Person who makes the decisions.")],
    json_: Json = False,
) -> None:
    """Store the decisions of a reviewed file; they stay the captions of their clips when these are captioned again.

    Run `dimo encode` afterwards: the texts of the clips have changed.

    Example: dimo captions decide doubts.csv --lake /data/lake --by ann
    """
    from opendimo.dags.show import as_json
    from opendimo.pipelines.captions.review import decide as store
    from opendimo.storage_schemas.lake.lake import Lake

    changed = store(Lake(lake, existing=True), file, by)
    if json_:
        return as_json({"changed": changed})
    return print(f"{len(changed)} captions changed")
