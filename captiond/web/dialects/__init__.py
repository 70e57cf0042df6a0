"""The APIs of other services over the same core: one module for each of them."""
