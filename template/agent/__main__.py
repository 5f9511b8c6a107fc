"""`python -m agent …`: run, worker, runs, show, resume."""

from substrate.cli import main

if __name__ == "__main__":
    main("agent")
