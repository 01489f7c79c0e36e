"""Starts a debugger's server and waits for a debugger to attach, then becomes the program that it was put in front of.

Arguments: port, folders as JSON ([[host's, inside], …]), program. Runs in the function's own interpreter.
"""

from __future__ import annotations

import os
import runpy
import sys


def main() -> None:
    _, port, paths, program = sys.argv
    before = dict(os.environ)
    os.environ["PATHS_FROM_ECLIPSE_TO_PYTHON"] = paths  # read by the debugger when it is imported
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    import debugpy

    debugpy.configure(subProcess=False)
    debugpy.listen(("127.0.0.1", int(port)))
    os.environ.clear()  # what it set for itself is not for the function to see
    os.environ.update(before)
    debugpy.wait_for_client()
    sys.argv[:] = [program]
    runpy.run_path(program, run_name="__main__")


main()
