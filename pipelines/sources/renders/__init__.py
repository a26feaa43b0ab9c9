"""Layouts of rendered data, one module each: locate the files, and convert cameras and bodies to our conventions."""
