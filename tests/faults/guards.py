"""Remove each guard and see its test fail: python -m tests.faults.guards [--resume] [WORD...]

A test that passes without the code that it tests is worth nothing, and so is one that fails for
another reason. A guard is a statement of captiond with the comment `# guard: MARK`, behind it or on
a line of its own above it. In a copy of the project its test must pass; then the guard is changed,
and the test must fail. Words choose guards by their mark. With `--resume`, guards that an earlier
run has found to hold are left out.
"""

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.faults.guard_changes import (
    Change,
    Marked,
    always,
    constant,
    never,
    remove,
    span,
    uncaught,
    value,
    without_argument,
)
from tests.patience import VARIABLE

PROJECT = Path(__file__).parents[2]
COPIED = ("captiond", "tests", "migrations", "config", "pyproject.toml")
IMPATIENT_SECONDS = 60.0  # without the guard, what never comes is waited for in vain
LONGEST_SECONDS = 1800.0  # of a test that waits somewhere without a deadline
HELD = PROJECT / "build" / "guards.txt"  # the marks of guards that hold
MARK = re.compile(r"# guard: ([a-z0-9-]+)")


class Verdict(StrEnum):
    """What became of the test of a guard."""

    HOLDS = "fails without it"
    WORTHLESS = "PASSES WITHOUT IT"
    BROKEN = "FAILS EVEN WITH IT"
    UNTRIED = "CANNOT BE TRIED"


@dataclass(frozen=True, slots=True)
class Guard:
    """A mark, what is done to the marked statement, and the test that must fail then."""

    mark: str
    change: Change
    test: str


DISK, KILLS, POISON, CLIENTS = (
    f"tests/faults/test_{name}.py -k " for name in ("disk", "kills", "poison", "clients")
)
RESTARTS, SHARING = (f"tests/unit/test_postgres_{name}.py -k " for name in ("restarts", "sharing"))
NODES = "tests/unit/test_nodes.py -k "
REMOTE = "tests/unit/test_remote_images.py -k "
CHILDREN = "tests/unit/test_cancelled_children.py -k "
CONNECTIONS = "tests/unit/test_connections.py -k "
GUARDS = (
    # ---------------------------------------------------------------- results and claims
    Guard(
        "passing-failures-are-not-cached",
        value("False"),
        "tests/unit/test_model_process.py -k fails_once",
    ),
    Guard("attempt-fence", without_argument, "tests/unit/test_store.py"),
    Guard("shard-attempt-fence", without_argument, "tests/unit/test_shards.py -k another_process"),
    Guard(
        "uploads-of-another-service",
        never,
        "tests/unit/test_prefix_owner.py -k others_do_not_start",
    ),
    Guard("one-lister", without_argument, "tests/unit/test_shards.py -k one_process_lists"),
    Guard(
        "imports-yield-to-decoding",
        value("tuple(Lane)"),
        "tests/unit/test_batching.py -k imports_yield",
    ),
    Guard("unreadable-shard-is-refused", always, "tests/unit/test_shard_source.py -k cannot_read"),
    Guard("lost-shard-is-not-written", never, "tests/unit/test_shard_source.py -k cancelled"),
    Guard("changed-listing", never, "tests/unit/test_importing.py -k changed"),
    Guard(
        "hosted-death-blames-running-images",
        remove,
        "tests/faults/test_bulk_captioner.py -k kills_a_process",
    ),
    Guard("damaged-caption", uncaught, "tests/unit/test_store.py -k damaged_caption"),
    Guard("damaged-options", uncaught, "tests/unit/test_store.py -k options_are_damaged"),
    Guard("one-task-for-a-key", always, CLIENTS + "the_same_key"),
    Guard("damaged-database", never, DISK + "damaged_database"),
    Guard("retry-until-stored", uncaught, DISK + "results_wait"),
    Guard("accepted-once", uncaught, RESTARTS + "accepted_once"),
    Guard("claims-of-lost-answers", never, "tests/unit/test_assignment.py -k answer"),
    Guard("dead-connections-replaced", never, RESTARTS + "old_connections"),
    Guard("file-of-an-uncertain-task", uncaught, "tests/unit/test_acceptance.py -k may_have_been"),
    Guard("repeat-after-conflict", uncaught, SHARING + "deadlock"),
    # ---------------------------------------------------------------- several nodes
    Guard("attempt-fence-of-asks", without_argument, REMOTE + "own_late_result"),
    Guard("deliveries-of-one-node", value("update(DeliveryRow)"), NODES + "called_by_one_node"),
    Guard("lost-asks-sent-again", remove, REMOTE + "sent_again"),
    Guard("lost-claims-dropped", never, NODES + "lost_lease"),
    Guard("nodes-without-common-uploads", never, NODES + "uploads_of_others"),
    Guard("poll-for-lost-answers", value("asyncio.timeout(None)"), REMOTE + "sent_again"),
    Guard("poll-for-lost-asks", value("asyncio.timeout(None)"), REMOTE + "without_a_notice"),
    Guard("tasks-locked-before-results", remove, SHARING + "revisions"),
    Guard("no-copy-of-a-running-service", never, "tests/unit/test_moving.py -k in_use"),
    Guard("copies-compared", never, "tests/unit/test_moving.py -k differs"),
    Guard("no-service-on-an-unfinished-copy", never, "tests/unit/test_moving.py -k interrupted"),
    Guard("tasks-that-fail-in-a-claim", remove, "tests/unit/test_assignment.py"),
    # ---------------------------------------------------------------- clients that follow tasks
    Guard("results-in-order", value("type_coerce(0, Integer)"), "tests/unit/test_history.py"),
    Guard("bounded-waiters", never, "tests/unit/test_long_poll.py -k bounded"),
    Guard("stop-ends-waiting", remove, "tests/unit/test_long_poll.py -k stop"),
    Guard("poll-for-lost-changes", value("set()"), "tests/unit/test_long_poll.py -k lost"),
    Guard("shared-events", always, "tests/unit/test_event_stream.py -k shared"),
    Guard("bounded-events", never, "tests/unit/test_event_stream.py -k bounded"),
    Guard("streams-end-in-a-stop", remove, "tests/unit/test_event_stream.py -k stop"),
    Guard("no-formulas", never, "tests/unit/test_results_stream.py -k formula"),
    Guard("lists-have-owners", value("None"), "tests/unit/test_task_list.py -k own_tasks"),
    # ---------------------------------------------------------------- clocks
    Guard("clock-jumps", value("wall"), "tests/unit/test_clock_jumps.py -k just_finished"),
    Guard("thread-ends-once", remove, "tests/unit/test_store_errors.py -k however_often"),
    Guard("children-are-released", value("await self._end()"), CHILDREN + "however_often"),
    Guard("slot-without-a-caller", never, CHILDREN + "slot"),
    Guard(
        "shard-is-written-first",
        value("await asyncio.to_thread(run.files.write, claim.number, rows)"),
        "tests/unit/test_importing.py -k cancelled_has_written",
    ),
    Guard("cancelled-statement", never, "tests/unit/test_store_errors.py -k cancelled"),
    Guard("hung-web-process", remove, "tests/unit/test_attendance.py -k suspended"),
    Guard("clock-returns", never, "tests/unit/test_clock_jumps.py -k 1970"),
    Guard("clock-set-back", remove, "tests/unit/test_clock_jumps.py -k webhooks"),
    # ---------------------------------------------------------------- deaths and blame
    Guard("death-blames-running-images", value("Death.ORDERLY"), POISON + "kills_model_processes"),
    Guard("decoder-death-blames-its-image", remove, POISON + "kills_decoders"),
    Guard("stored-size-fits-its-slot", never, "tests/integration/test_pool.py -k malformed"),
    Guard("other-version-blames-nothing", never, "tests/integration/test_pool.py -k other_version"),
    Guard("idle-decoder-blames-nothing", never, "tests/integration/test_pool.py"),
    Guard(
        "tagger-death-blames-its-batch",
        value("self._at_work[-1] if self._at_work else []"),
        POISON + "kills_its_tagger",
    ),
    Guard("kill-weighs-less", value("cls.CRASHED"), "tests/unit/test_jobs.py"),
    Guard("one-version-at-a-time", never, "tests/unit/test_supervision.py -k other_version"),
    Guard("deleted-current-folder", remove, "tests/unit/test_currentfolder.py -k replaces"),
    Guard("stopped-is-not-hung", value("False"), KILLS + "model_processes_are_stopped"),
    Guard("hung-batch", never, POISON + "a_batch_that_never_ends"),
    Guard("finished-batch-does-not-hang", remove, DISK + "results_wait"),
    Guard("split-batch", uncaught, POISON + "does_not_fit_into_memory"),
    Guard("device-error-ends-process", never, POISON + "device_error"),
    Guard("reason-of-failed-start", uncaught, POISON + "cannot_be_started"),
    Guard("refused-start-is-repeated", uncaught, "tests/unit/test_supervision.py -k refuses"),
    # ---------------------------------------------------------------- requeue and recovery
    Guard("lost-interactive-work-is-answered", value("False"), POISON + "kills_model_processes"),
    Guard("requeue-after-death", remove, KILLS + "model_processes_are_killed"),
    Guard("poll-for-lost-hints", remove, POISON + "can_be_retried"),
    Guard("children-die-with-supervisor", never, KILLS + "the_supervisor_is_killed"),
    Guard("requeue-at-start", value("0"), KILLS + "the_supervisor_is_killed"),
    Guard("exit-codes-of-children", remove, KILLS + "decoders_are_killed"),
    Guard("sweep-after-web-death", remove, KILLS + "web_processes_are_killed"),
    Guard(
        "sweep-until-it-succeeds",
        value("self._put(job)"),
        "tests/unit/test_cleaner.py -k repeated_until",
    ),
    # ---------------------------------------------------------------- disks
    Guard("sync-upload", remove, DISK + "upload_that_cannot"),
    Guard("sync-folder", remove, DISK + "name_that_cannot"),
    Guard("full-disk-is-507", never, DISK + "a_full_disk"),
    Guard("private-files", remove, "tests/unit/test_datafolder.py -k whatever_the_umask"),
    Guard("read-only-heals", never, "tests/unit/test_store_errors.py -k read_only_time"),
    Guard("no-retry-of-what-never-fits", remove, "tests/unit/test_guard.py -k bytes_of_bodies"),
    Guard("replay-of-a-full-queue", never, "tests/unit/test_queue_limit.py -k sent_again"),
    Guard("pipelined-requests-are-paced", remove, "tests/unit/test_pipelining.py"),
    Guard("missing-library", remove, "tests/unit/test_config.py -k library"),
    Guard("missing-s3", never, "tests/unit/test_config.py -k object_storage_without"),
    Guard("a-stop-is-no-alarm", always, "tests/unit/test_attendance.py -k too_late_in_a_stop"),
    Guard("named-files-count", never, "tests/unit/test_named_files.py -k as_much_as_sent"),
    Guard("reserve-of-disk-space", never, "tests/unit/test_spool_room.py -k reserve"),
    Guard("stop-cancels-restarters", remove, DISK + "a_stop_does_not"),
    Guard("commit-outlives-request", remove, "tests/unit/test_acceptance.py -k cancelled"),
    # ---------------------------------------------------------------- clients
    Guard(
        "lanes-do-not-share",
        value("key"),
        "tests/integration/test_lanes.py -k the_same_one",
    ),
    Guard("reserve-for-new-clients", value("False"), "tests/unit/test_dispatch.py -k anew"),
    Guard("unwanted-image-is-not-decoded", never, "tests/integration/test_pool.py -k idle"),
    Guard("answer-in-a-drain", remove, CLIENTS + "in_a_stop_without_a_model"),
    Guard("timeout-of-the-disk", never, "tests/unit/test_interactive_requests.py -k disk"),
    Guard("upload-deadline", value("asyncio.timeout(None)"), CLIENTS + "crawling"),
    Guard("discard-broken-upload", remove, CLIENTS + "cut_anywhere"),
    Guard("disconnect-ends-work", constant("http.disconnect", "never"), CLIENTS + "is_gone"),
    Guard("drain-deadline", value("asyncio.timeout(None)"), CLIENTS + "do_not_react"),
    Guard("own-hosts-only", remove, "tests/unit/test_other_pages.py -k another_host"),
    Guard("own-origins-only", never, "tests/unit/test_other_pages.py -k another_site"),
    Guard("plain-root-path", never, "tests/unit/test_root_path.py -k must_be_a_plain_path"),
    Guard("prefix-is-a-whole-segment", always, "tests/unit/test_root_path.py -k pass_the_prefix"),
    Guard("own-path-before-prefix", value("True"), "tests/unit/test_root_path.py -k own_path"),
    Guard("no-parent-folders", never, "tests/unit/test_named_files.py -k no_regular_file_under"),
    Guard("regular-files-only", remove, "tests/unit/test_named_files.py -k no_regular_file_under"),
    Guard("large-files-are-not-read", remove, "tests/unit/test_named_files.py -k not_read"),
    Guard("other-files-are-not-read", remove, "tests/unit/test_named_files.py -k not_read"),
    Guard("keys-are-compared", never, "tests/unit/test_keys.py -k begins_like"),
    Guard("damaged-key", uncaught, "tests/unit/test_keyring.py -k damaged"),
    Guard("scopes-are-checked", never, "tests/unit/test_guard.py -k needs_the_scope"),
    Guard("tasks-have-owners", never, "tests/unit/test_guard.py -k belongs_to_its_key"),
    Guard("results-need-read", value("None"), "tests/unit/test_guard.py -k need_the_scope_read"),
    Guard("keys-of-each-client", value("key"), "tests/unit/test_guard.py -k idempotency"),
    Guard("cache-of-each-key", value("''"), "tests/unit/test_recipe.py -k each_key"),
    # ---------------------------------------------------------------- connections
    Guard("refused-requests", remove, "tests/unit/test_http_edge.py -k refusal"),
    Guard("errors-have-one-form", never, "tests/unit/test_http_edge.py -k refusal"),
    Guard("no-delay", remove, CONNECTIONS + "do_not_wait"),
    Guard("bounded-chunks", never, CONNECTIONS + "too_small"),
    Guard("early-answer-keeps-connection", never, CONNECTIONS + "an_early_answer"),
    Guard("unasked-body-closes", never, CONNECTIONS + "without_its_body"),
    Guard("end-of-input-is-no-disconnect", remove, CONNECTIONS + "only_ends_its_input"),
    Guard("silent-client-is-probed", remove, CONNECTIONS + "is_noticed"),
    Guard("evict-when-full", value("None"), CONNECTIONS + "the_quietest"),
    Guard("bounded-boundaries", remove, "tests/unit/test_multipart.py"),
    Guard("search-what-is-new", value("0"), "tests/unit/test_multipart.py -k byte_by_byte"),
    Guard("bounded-forwarded", never, "tests/unit/test_clients.py -k long_header"),
    Guard("bounded-parameters", never, "tests/unit/test_multipart.py"),
    Guard("bounded-document", never, "tests/unit/test_json_bodies.py -k bounded"),
    Guard("bounded-values", never, "tests/unit/test_json_bodies.py -k bounded"),
    Guard("long-options", remove, "tests/unit/test_schema_filling.py -k limited"),
    Guard("bounded-depth", never, "tests/unit/test_json_bodies.py -k no_json_object"),
    Guard("repeated-keys", never, "tests/unit/test_json_bodies.py -k no_json_object"),
    Guard("json-is-utf-8", never, "tests/unit/test_json_requests.py -k cannot_be_parsed"),
    Guard("no-half-pairs", never, "tests/unit/test_surrogates.py -k wherever"),
    Guard("json-types", remove, "tests/unit/test_json_requests.py -k wrong_option"),
    Guard("one-service-for-a-folder", remove, "tests/integration/test_starting.py -k second"),
)


def marks(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each mark in a file, with the number of the line of code that it marks."""
    waiting: list[str] = []  # marks on lines of their own, until the next line of code
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                found = MARK.findall(token.string)
                if token.line.lstrip().startswith("#"):
                    waiting += found
                else:
                    yield from ((mark, token.start[0]) for mark in found)
            elif waiting and token.string.strip():
                yield from ((mark, token.start[0]) for mark in waiting)
                waiting.clear()


def all_marks(project: Path) -> list[tuple[str, Path, int]]:
    """Return every mark of the package with its file and line."""
    files = sorted((project / "captiond").rglob("*.py"))
    marked = [path for path in files if MARK.search(path.read_text("utf-8"))]
    return [(mark, path, line) for path in marked for mark, line in marks(path)]


def changed(source: str, line: int, change: Change) -> str:
    """Return a module's source with one statement changed: the one that `line` belongs to."""
    tree = ast.parse(source)
    statements = [node for node in ast.walk(tree) if isinstance(node, Marked)]
    target = min((node for node in statements if line in header(node)), key=span)

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return change(target, line) if node is target else self.generic_visit(node)

    return ast.unparse(ast.fix_missing_locations(Replace().visit(tree)))


def header(statement: Marked) -> range:
    """Return the lines of a statement, without those of the block that it may have."""
    assert statement.end_lineno is not None
    body: list[ast.stmt] = getattr(statement, "body", [])
    return range(statement.lineno, body[0].lineno if body else statement.end_lineno + 1)


def verdict_on(guard: Guard, folder: Path) -> Verdict:
    """Run the guard's test in a copy of the project with the guard, then without it."""
    copy_project(folder)
    begun = time.monotonic()
    if passes(guard.test, folder) is not True:
        return Verdict.BROKEN
    # On a busy machine, a test that gives up sooner would fail for this reason.
    patience = max(IMPATIENT_SECONDS, 2 * (time.monotonic() - begun))
    ((path, line),) = [(path, line) for mark, path, line in all_marks(folder) if mark == guard.mark]
    path.write_text(changed(path.read_text(), line, guard.change))
    without = passes(guard.test, folder, **{VARIABLE: f"{patience:.0f}"})
    return {True: Verdict.WORTHLESS, False: Verdict.HOLDS, None: Verdict.UNTRIED}[without]


def copy_project(folder: Path) -> None:
    for name in COPIED:
        source, target = PROJECT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)


def passes(test: str, folder: Path, **environ: str) -> bool | None:
    """Return whether a test passes in a copy of the project, or None if it cannot be run there.

    One that goes on for too long fails.
    """
    file, *chosen = test.split()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, *chosen]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **environ, "PYTHONPATH": str(folder)},
            capture_output=True,
            check=False,
            timeout=LONGEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return False
    if done.returncode not in {0, 1}:  # 1: a test failed; all else: none was run
        sys.stdout.write(done.stdout.decode())
        return None
    return done.returncode == 0


def main(words: list[str]) -> None:
    """Check guards, print a line for each, and exit with 1 if one of them does not hold."""
    if "--resume" not in words:
        HELD.unlink(missing_ok=True)
    held = HELD.read_text().split() if HELD.exists() else []
    chosen = [word for word in words if word != "--resume"]
    bad = 0
    for guard in GUARDS:
        if guard.mark in held or (chosen and not any(word in guard.mark for word in chosen)):
            continue
        with tempfile.TemporaryDirectory() as folder:
            verdict = verdict_on(guard, Path(folder))
        bad += verdict is not Verdict.HOLDS
        note(guard, verdict)
    raise SystemExit(1 if bad else 0)


def note(guard: Guard, verdict: Verdict) -> None:
    """Print a verdict, and remember a guard that holds."""
    sys.stdout.write(f"{verdict:18} {guard.mark} ({guard.test})\n")
    sys.stdout.flush()
    if verdict is Verdict.HOLDS:
        HELD.parent.mkdir(exist_ok=True)
        with HELD.open("a") as file:
            file.write(f"{guard.mark}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
