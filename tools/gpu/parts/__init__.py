"""The parts of a run: one module each, whose `run` yields rows and notes."""
