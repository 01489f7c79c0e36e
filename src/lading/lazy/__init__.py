"""Lazy images: the on-demand format, its writer and store, and what reads it. The format knows nothing of the mount."""
