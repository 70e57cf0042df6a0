"""What captiond does on a GPU: one command that measures it in at most nine minutes."""
