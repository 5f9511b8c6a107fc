"""`python -m agent …`: run, worker, runs, show, crash and more; ``--help`` lists them all."""

from substrate.cli import main

if __name__ == "__main__":
    main("agent")
