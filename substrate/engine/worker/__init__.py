"""A worker: it claims runs of the lanes that it knows, drives them, and gives back what is left.

What it keeps true: what the database says is this worker's and nobody here drives is given back;
a run leaves in exactly one way; a lease counts from the moment at which its beat was sent, and work
stops before it ends. `options` is the one home of every default. Only the client and the command
line make workers.
"""
