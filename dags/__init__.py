"""Orchestration: Prefect flows and the `dimo` command line."""
