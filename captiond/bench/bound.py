"""Run captiond as a child that ends with its parent: python -m captiond.bench.bound PID COMMAND…

A service that is measured must not outlive the measurement, even if that is killed.
"""

import runpy
import sys

from captiond.processes.start import end_with

if __name__ == "__main__":
    end_with(int(sys.argv.pop(1)))
    runpy.run_module("captiond", run_name="__main__", alter_sys=True)
