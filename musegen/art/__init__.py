"""Covers: what music says of colours and words, lettering, tracing, layout; no torch."""
