"""The commands of the command line, one module for each kind; `molsaki.cli` puts them together."""
