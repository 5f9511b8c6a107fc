"""Anthropic: the Messages API, and Claude's messages."""
