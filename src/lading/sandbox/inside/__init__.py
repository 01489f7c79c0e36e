"""What runs behind the walls: standard library only, syntax of Python 3.9, single-threaded.

Imported by the host for its kernel calls too, so nothing here may act when imported.
"""
