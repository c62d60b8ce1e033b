"""`python -m earlyexit` and `torchrun -m earlyexit`: the command line."""

from .cli import main

main()
