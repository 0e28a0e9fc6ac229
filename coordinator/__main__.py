"""`python -m coordinator`: the `lockstep` command where its script is not on PATH."""

from coordinator.cli import main

if __name__ == "__main__":
    main()
