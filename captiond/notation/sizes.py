"""Numbers of bytes as messages show them."""

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def shown_size(size: int) -> str:
    """Return a size for people, with the exact number beside it: `20 MiB (20971520 bytes)`."""
    exact = f"{size} bytes"
    power = min(max(0, size.bit_length() - 1) // 10, len(UNITS) - 1)
    return f"{size / 1024**power:.4g} {UNITS[power]} ({exact})" if power else exact
