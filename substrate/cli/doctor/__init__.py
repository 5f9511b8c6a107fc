"""What `doctor` looks at: whatever keeps an agent from running, before it is asked to."""
