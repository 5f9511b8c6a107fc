"""`python -m agent …`: run, worker, runs, show, resume, prompts."""

from substrate.cli import main

if __name__ == "__main__":
    main("agent")
