"""What READMEs show exists: commands, options, imports, files."""

import ast
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from opendimo.dags.cli import app

ROOT = Path(__file__).parents[1]
LISTED = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
PAGES = [ROOT / name for name in LISTED.split()]
COMMAND = re.compile(r"^ *(?:\$ )?(dimo [a-z].*?)(?:   +.*)?$|`(dimo [a-z][^`]*)`", re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Page and text of every `dimo ...`, without comments and what stands behind three spaces."""
    for page in PAGES:
        for block, inline in COMMAND.findall(page.read_text()):
            yield str(page.relative_to(ROOT)), re.sub(r"(dimo \w+) +", r"\1 ", block or inline).split("  #")[0]


def snippets() -> Iterator[tuple[str, str]]:
    """Page and text of every block of Python."""
    for page in PAGES:
        for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            yield str(page.relative_to(ROOT)), code


@pytest.mark.parametrize(("page", "text"), sorted(set(commands())))
def test_commands_and_their_options_exist(page: str, text: str) -> None:
    words = shlex.split(text.replace("|", " "), comments=True)[1:]
    command: Any = get_command(app)
    while words and hasattr(command, "commands") and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{page}: no command {words[0]} in {text!r}"
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("-") and word.split("=")[0] not in {*known, "--help"}]
    assert not unknown, f"{page}: {text!r}"


@pytest.mark.parametrize(("page", "code"), list(snippets()))
def test_what_snippets_import_exists(page: str, code: str) -> None:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
