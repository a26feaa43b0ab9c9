"""The rules of the house: who may import whom, and what stands at the top level."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("storage_schemas", "pipelines", "model", "training", "dags")
MAY_IMPORT = {
    "storage_schemas": (),
    "model": (),
    "pipelines": (
        "storage_schemas",
        "model.body",
        "model.base_folder",
        "model.latent_geometry",
        "model.vae",
        "model.text",
    ),
    "training": ("model", "storage_schemas"),
    "dags": ("pipelines", "training", "storage_schemas", "model.sampling"),
}
ALSO = {"training/miniature/": "pipelines.studio"}
"""What the files of a folder may import besides: the miniature's base has seen the studio's people."""
KEPT_BY = {"prefect": ("dags/",), "ray": ("pipelines/engine/runner", "training/launch"), "lance": ("storage_schemas/",)}
TOP_LEVEL = {*ROOMS, "tests", "docker", "pyproject.toml", "README.md", "Makefile", "LICENSE"}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of every import in a file, also those inside functions; of ours without `opendimo`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("opendimo.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = str(node.module).removeprefix("opendimo.")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(room: str) -> list[Path]:
    found = sorted((ROOT / room).rglob("*.py"))
    assert found, room
    return found


def also(path: Path) -> list[str]:
    return [package for folder, package in ALSO.items() if str(path.relative_to(ROOT)).startswith(folder)]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_whom_they_may(room: str) -> None:
    allowed = (room, *MAY_IMPORT[room])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(room)
        for name in imports(path)
        if any(within(name, other) for other in ROOMS)
        and not any(within(name, a) or within(a, name) for a in (*allowed, *also(path)))
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count, too."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for room in ROOMS
        for path in files(room)
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = set(imports(path)) & modules.keys()
        packages = {name.rpartition(".")[0] for name in names}  # `from package import module` needs the module alone
        graph[module] = names - packages - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", KEPT_BY)
def test_platform_libraries_stay_in_their_rooms(library: str) -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in files(room)
        if any(within(name, library) for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(KEPT_BY[library])
    ]
    assert not wrong


def test_who_starts_a_flow_waits_for_no_torch() -> None:
    heavy = "('torch', 'diffusers', 'transformers')"
    code = f"import sys, opendimo.dags.flows; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_top_level_is_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_files_stay_small() -> None:
    long = {
        str(p.relative_to(ROOT)): n for r in ROOMS for p in files(r) if (n := len(p.read_text().splitlines())) > 320
    }
    assert not long
