"""What travels between the layers: plain, frozen values.

Nothing in this package does I/O, reads a clock or draws a random number by itself, save where
`clock` and `retry` hand out the machine's own as a default argument.
"""
