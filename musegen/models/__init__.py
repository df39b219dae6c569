"""Models: a family brings losses and steps; the loops are elsewhere (musegen/models/base.py)."""
