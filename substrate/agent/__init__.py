"""What the loop is made of: tools, prompts, stop conditions, and the verbs of a turn."""
