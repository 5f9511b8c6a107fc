"""The benchmark: what a step costs beside the store's own floor, measured in one run."""
