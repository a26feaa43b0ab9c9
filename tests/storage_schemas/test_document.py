"""The generated documentation of the tables matches the code."""

from opendimo.storage_schemas.document import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m opendimo.storage_schemas.document"
