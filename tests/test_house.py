"""Check the structure of the repository: allowed imports between packages, top-level files, and file length."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("storage_schemas", "pipelines", "model", "training", "dags")
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
    "dags": ("pipelines", "training", "storage_schemas", "model.sampling", "model.multiview.paths"),
}
EXTRA_IMPORTS = {"training/miniature/": "pipelines.studio"}
"""Additional imports allowed for a folder: the miniature's base model is trained on the synthetic people of the
studio."""
LIBRARY_OWNERS = {
    "prefect": ("dags/",),
    "ray": ("pipelines/engine/runner", "training/launch"),
    "lance": ("storage_schemas/",),
}
TOP_LEVEL = {*PACKAGES, "tests", "docker", "pyproject.toml", "README.md", "Makefile", "LICENSE"} | {
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
}


def imports(path: Path) -> Iterator[str]:
    """Yield the dotted names of all imports in a file, including those inside functions, without `opendimo.`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("opendimo.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = str(node.module).removeprefix("opendimo.")
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def files(package: str) -> list[Path]:
    paths = sorted((ROOT / package).rglob("*.py"))
    assert paths, package
    return paths


def extra_imports(path: Path) -> list[str]:
    return [package for folder, package in EXTRA_IMPORTS.items() if str(path.relative_to(ROOT)).startswith(folder)]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.parametrize("package", PACKAGES)
def test_rooms_import_only_whom_they_may(package: str) -> None:
    allowed = (package, *MAY_IMPORT[package])
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imports(path)
        if any(within(name, other) for other in PACKAGES)
        and not any(within(name, a) or within(a, name) for a in (*allowed, *extra_imports(path)))
    ]
    assert not wrong


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Includes imports inside functions."""
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in PACKAGES
        for path in files(package)
    }
    graph: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = set(imports(path)) & modules.keys()
        packages = {name.rpartition(".")[0] for name in names}  # `from package import module` needs only the module
        graph[module] = names - packages - {module}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("library", LIBRARY_OWNERS)
def test_platform_libraries_stay_in_their_rooms(library: str) -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in files(package)
        if any(within(name, library) for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(LIBRARY_OWNERS[library])
    ]
    assert not wrong


def test_stages_look_for_no_gpu_by_themselves() -> None:
    """Their config names the device, and `engine/device.py` turns it into what the scheduler is asked for."""
    allowed = {"pipelines/engine/device.py", "pipelines/progress/sample.py"}  # the second counts cards, as a scheduler
    touching = {
        str(path.relative_to(ROOT))
        for path in files("pipelines")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "cuda"
    }
    assert touching <= allowed


def test_who_starts_a_flow_waits_for_no_torch() -> None:
    heavy = "('torch', 'diffusers', 'transformers')"
    code = f"import sys, opendimo.dags.serving.deployments; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_the_top_level_is_what_was_agreed() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    top = {line.split("/")[0] for line in listed.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_files_stay_small() -> None:
    long = {
        str(p.relative_to(ROOT)): n for r in PACKAGES for p in files(r) if (n := len(p.read_text().splitlines())) > 320
    }
    assert not long


def test_saved_models_do_not_say_where_they_were_saved() -> None:
    configs = [*ROOT.glob("training/miniature/**/*.json"), *ROOT.glob("model/**/*.json")]
    assert configs and not [path for path in configs if "_name_or_path" in path.read_text()]
