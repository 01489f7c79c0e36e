"""AWS's facts as data, each with its source and date. A new runtime is one entry in runtimes.toml."""
