"""A durable function: its name and version, its arguments, its result, and where it stands.

What it keeps true: arguments and results cross as JSON and read back as what was given; a call that
does not fit is refused before anything is recorded; what a function can reach is known where it is.
Nothing here knows of runs.
"""
