"""Commands that compare runs: versions of a prompt, with their confidence intervals."""
