"""The decorator of all flows: run names and tags that say what runs on which lake, and forms with descriptions."""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

from prefect import Flow, flow
from pydantic.fields import FieldInfo

from opendimo.dags.labels import run_name, tag_run

P = ParamSpec("P")
R = TypeVar("R")


def labelled_flow(**options: Any) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Return `prefect.flow` with a run name and tags; `options` are those of `prefect.flow`.

    Forms of the dashboard show the descriptions of parameters (`Annotated[..., Field(description=...)]`).
    """

    def decorate(function: Callable[P, R]) -> Flow[P, R]:
        made = flow(flow_run_name=run_name, on_running=[tag_run], **options)(function)
        # Prefect reads the descriptions for the forms of a deployment from this section of the docstring
        lines = "".join(f"\n    {name}: {text}" for name, text in _descriptions(function).items())
        made.__doc__ = f"{function.__doc__}\n\nArgs:{lines}\n"
        return made

    return decorate


def _descriptions(function: Callable[..., Any]) -> dict[str, str]:
    """Return the descriptions of the parameters of a function."""
    hints = get_type_hints(function, include_extras=True)
    fields = [(name, info) for name, hint in hints.items() for info in getattr(hint, "__metadata__", ())]
    return {name: info.description for name, info in fields if isinstance(info, FieldInfo) and info.description}
