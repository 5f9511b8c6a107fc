"""Commands that look at runs, and how a row, a question and a state read.

What it keeps true: it writes nothing; a waiting run says by which command it is answered.
"""
