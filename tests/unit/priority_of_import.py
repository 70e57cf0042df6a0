"""The scheduling policy of the thread that imports this module."""

import os

POLICY = os.sched_getscheduler(0)
