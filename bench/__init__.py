"""Benchmarks: lading beside its peers, both sides in one run. `python -m bench [NAME…]`.

Every module in this folder is one benchmark: its docstring says what is asked, `measure(workshop)` yields tables.
What they share is in `bench.harness`. Nothing here is imported by lading.
"""
