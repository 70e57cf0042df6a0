"""What this machine can do: `captiond bench`, without its printing."""
