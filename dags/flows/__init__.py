"""Flows: each can run on its own, from the command line or as a deployment."""
