"""From files to batches: corpora and their cards, duplicates, shards, batches, augmentation.

Training needs only `shards`, `batches` and `augment` (numpy and the standard library).
"""
