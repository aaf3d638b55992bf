"""R1: a script claims in its first line."""
