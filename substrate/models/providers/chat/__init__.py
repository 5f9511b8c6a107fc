"""The OpenAI chat protocol, which several providers speak: its request and its reply."""
