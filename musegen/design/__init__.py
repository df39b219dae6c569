"""Designs: proposals with an objective, constraints, and a designer's taste."""
