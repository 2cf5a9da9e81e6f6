"""`python -m molsaki.cli`."""

from molsaki.cli.app import main

main()
