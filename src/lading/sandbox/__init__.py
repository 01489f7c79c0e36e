"""An execution environment's walls: namespaces, mounts, cgroup, seccomp, network.

A sandbox is a list of operations that can be printed, compared and tested before it is entered. What runs inside
(`inside/`) uses the standard library only and works on every supported Python.
"""
