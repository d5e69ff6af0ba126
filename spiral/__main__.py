"""`python -m spiral` is `spiral`."""

from spiral.cli import main

main()
