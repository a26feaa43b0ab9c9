"""Implement the lake: storage, commits, snapshots, maintenance and migration."""
