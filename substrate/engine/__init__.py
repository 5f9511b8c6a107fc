"""How runs move: claimed by a worker, driven against their journal, committed under a fence."""
