"""Groq: its chat API, over its own SDK."""
