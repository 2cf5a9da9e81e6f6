"""The command line, one file a command."""

from molsaki.cli.app import main

__all__ = ["main"]
