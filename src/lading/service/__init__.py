"""The local Lambda: pool (execution environments), and what stands in front of it."""
