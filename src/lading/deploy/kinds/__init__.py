"""One file for each kind of resource: what is wanted, what is there, and the instructions between the two."""
