"""Layouts of rendered data, one module each: what lies where, and its cameras and bodies in our conventions."""
