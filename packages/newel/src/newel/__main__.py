"""``python -m newel``: the command line, for whoever has an interpreter and no PATH."""

from newel.cli import main

if __name__ == "__main__":
    main()
