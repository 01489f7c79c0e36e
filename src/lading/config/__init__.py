"""What the user wrote → a frozen Project. Reads files of the project; runs nothing, writes nothing."""

from lading.config.find import load

__all__ = ["load"]
