"""What can be typed: each command with its options and its help, and nothing of what it does.

A command hands over to a module that does it, which is imported only then: so ``--help`` comes at
once. `substrate.cli.app` puts the commands together, in the order in which the help lists them.
"""
