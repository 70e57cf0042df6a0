"""Checks of what is shipped beside the code. `make packages-check` runs them, `make test` does not.

They need programs that not every machine has: nginx, caddy, docker-compose, systemd-analyze.
"""
