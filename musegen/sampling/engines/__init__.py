"""What computes the logits: one engine a file, all behind `musegen.guide.Engine`."""
