"""The one deadline of all tests that wait: for a condition, for a process, or for an event.

A machine with other work may take a hundred times as long as usual, so only what never comes
reaches the deadline.
"""

import os

# captiond refuses unknown CAPTIOND_ variables, and processes of captiond inherit this one.
VARIABLE = "TEST_PATIENCE"
PATIENCE = float(os.environ.get(VARIABLE, "300"))  # seconds after which a test gives up
