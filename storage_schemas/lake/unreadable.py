"""Say which table failed when Lance cannot read it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

SOURCE_LINE = re.compile(r", /\S+\.rs:\d+:\d+")
"""The location in its own source code that Lance appends to its messages."""


class UnreadableTable(ValueError):
    """A table or one of its files is damaged or missing."""


@contextmanager
def naming(uri: str) -> Iterator[None]:
    """Raise errors of Lance as `UnreadableTable`, with the address of the table."""
    try:
        yield
    except UnreadableTable:
        raise
    except (OSError, ValueError, RuntimeError) as error:
        raise UnreadableTable(
            f"cannot read the table {uri}: {reason(error)}. `dimo doctor --lake` names the damaged files"
        ) from error


def reason(error: BaseException) -> str:
    """Return the message of an error of Lance in one line, without locations in its source code."""
    return SOURCE_LINE.sub("", str(error)).strip().partition("\n")[0]
