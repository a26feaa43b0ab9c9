"""The commands of `dimo`, one module per group of users."""
