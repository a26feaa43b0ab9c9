"""The commands of `dimo`, a file per kind of user."""
