"""`python -m agent …`: run, worker, runs, show, crash and more; ``--help`` lists them all."""

import sys

if __name__ == "__main__":
    try:
        from substrate.cli import main
    except KeyboardInterrupt:  # Ctrl-C while the kit was being loaded
        sys.exit(130)
    main("agent")
