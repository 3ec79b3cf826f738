"""`python -m heimdex`: the command line."""

from heimdex.entrypoints.cli import main

main()
