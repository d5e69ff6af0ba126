"""`python -m spiral` is `spiral`."""

from spiral.commands.main import main

main()
