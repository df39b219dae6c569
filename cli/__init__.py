"""The command line: one verb a file, installed as `musegen.cli`. Verbs hold no logic."""
