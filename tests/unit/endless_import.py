"""A child process for tests whose imports take for ever."""

import signal

while True:
    signal.pause()
