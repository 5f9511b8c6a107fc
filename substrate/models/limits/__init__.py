"""What is left of a provider's limits, and how workers share what they were told.

What it keeps true: nobody asks sooner than a provider said; a crowd is paced, a single call is not.
Adapters tell what they hear; `Model` waits for its turn.
"""
