"""The machinery of a lake: storage, commits, snapshots, maintenance and migration."""
