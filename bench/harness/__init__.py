"""What benchmarks share: running processes, interleaved rounds, peers in environments of their own, tables."""
