"""What is left of a provider's limits, which models rest, and how workers share what they heard.

What it keeps true: no call goes out sooner than its provider asked for; a crowd is paced, a single
call is not.
Adapters tell what they hear; `Model` waits for its turn.
"""
