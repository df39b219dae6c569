"""Music as data: scores, MIDI files, notation. Nothing in here imports torch."""
