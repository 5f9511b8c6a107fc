"""`chat`: talk with an agent at a terminal; what was said is in its run, and nowhere else."""
