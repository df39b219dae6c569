"""The one sampling loop, and where its randomness comes from."""
