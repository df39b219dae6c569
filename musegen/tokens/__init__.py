"""Scores to ids and back: presets, the cell schedule, and the grammar that sampling obeys."""
