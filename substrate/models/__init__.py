"""Who answers: the messages, the `Model` value, and one adapter per provider.

An adapter's SDK is imported when its first call is made, never before.
"""
