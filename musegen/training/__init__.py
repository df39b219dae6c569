"""Training: the loop, its settings, and what it leaves behind."""
