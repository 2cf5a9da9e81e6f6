"""The command line, with one file for each command."""

from molsaki.cli.app import main

__all__ = ["main"]
