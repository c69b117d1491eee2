"""`python -m essaim.cli` is `essaim`."""

from .main import main

main()
