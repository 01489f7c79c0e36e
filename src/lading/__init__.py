"""lading packs Python for AWS Lambda, runs it here as Lambda would, and ships it."""

__version__ = "0.1.0"
