"""HTTP in front of the service: who may ask, whose request it is, which service it is for. Decides nothing else."""
