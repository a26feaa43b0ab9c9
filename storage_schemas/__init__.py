"""Storage layer: ids, coordinate conventions, Arrow schemas, Lance tables, the commit protocol and releases."""
