"""What `crash` does: the fork's own agent, killed at every commit, and a table of what came of it.

Each run is driven in processes of their own, in a copy of the fork's folder and a database that is
thrown away. This process loads none of the fork's code and starts no thread, so that it can fork.
"""
