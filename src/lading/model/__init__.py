"""The nouns of lading: frozen values without I/O. Everything above speaks in these."""
