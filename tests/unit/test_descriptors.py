"""File descriptors of a web process, and how many connections they allow."""

from captiond.web.connections.descriptors import RESERVED, connections_for


def test_descriptors_are_reserved_for_what_is_not_a_connection() -> None:
    assert connections_for(65536, 2000) == 2000
    assert connections_for(1024, 2000) == (1024 - RESERVED) // 2
    assert connections_for(10, 2000) == 1
