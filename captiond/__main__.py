"""`python -m captiond`, and the `captiond` command.

Child processes import this module again, so it imports nothing until it is called.
"""

import signal
import sys


def main() -> None:
    """Run the command line; the exit status is 2 for a wrong setting or argument.

    SIGUSR1 requests the metrics of a service, and `pkill -USR1 captiond` sends it to every command.
    SIGINT ends a command at once, without a traceback. A command that has something to clean up
    says so itself. A command in the background of a script ignores SIGINT from its start.

    A process keeps ignoring SIGCHLD if whatever has started it did so. The kernel would then keep
    no exit code of a child for us, and we would wait for it forever.
    """
    # guard: exit-codes-of-children
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    from captiond.cli.streams import set_up_streams
    from captiond.host.currentfolder import leave_deleted_folder

    leave_deleted_folder()
    set_up_streams()
    from captiond.left_out import left_out
    from captiond.processes.collector import spare_last_collections, without_gc

    # Commands that print tables or progress import rich later.
    with without_gc(), left_out("rich"):
        from captiond.cli.main import run

    status = run()
    spare_last_collections()
    sys.exit(status)


if __name__ == "__main__":
    main()
