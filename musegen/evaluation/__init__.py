"""What a model's music is measured by."""
