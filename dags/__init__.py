"""Prefect flows and the `dimo` command line: what runs when."""
