"""Container images as values: read, change, check, write and move them. Knows nothing of builds, functions or how images run."""
