"""What an agent's rows mean, read without the loop's code: requests and totals.

Whoever reads journals (the command line, tests, pages) reads them through here.
"""
