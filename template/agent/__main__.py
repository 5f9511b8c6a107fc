"""`python -m agent …`: run, worker, runs, show, signal, cancel, resume, discard, compare."""

from substrate.cli import main

if __name__ == "__main__":
    main("agent")
