"""Take each guard out and see its test fail: python -m tests.faults.guards [WORD...]

A test that passes without what it tests is worth nothing. Each guard is removed in a copy of the
project, by putting one piece of text for another; names or words choose among them.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
COPIED = ("captiond", "tests", "migrations", "pyproject.toml")
IMPATIENT = (
    "tests/service.py",
    '"CAPTIOND_TEST_PATIENCE", "300"',
    '"CAPTIOND_TEST_PATIENCE", "60"',
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What is put in a file in place of what, and the test that must fail then."""

    name: str
    file: str
    there: str
    instead: str
    test: str


GUARDS = (
    Guard(
        "a result is fenced by its attempt",
        "captiond/store/claims.py",
        "        ImageRow.attempt == OUTCOMES.c.attempt,\n",
        "",
        "tests/unit/test_store.py",
    ),
    Guard(
        "a death is pinned on what was running",
        "captiond/supervisor/supervisor.py",
        "self._death(code, watching))",
        "Death.ORDERLY)",
        "tests/faults/test_poison.py -k an_image_that_kills_model_processes",
    ),
    Guard(
        "a decoder's death is pinned on its image",
        "captiond/decoding/pool.py",
        "        job.blame += max(1, blame(death, batch=1))\n",
        "",
        "tests/faults/test_poison.py -k an_image_that_kills_decoders",
    ),
    Guard(
        "a decoder that died idle is pinned on nobody",
        "captiond/decoding/pool.py",
        "if not decoder.process.is_alive():",
        "if False:",
        "tests/integration/test_pool.py",
    ),
    Guard(
        "a death while captions are tagged is by their images",
        "captiond/worker/pipeline.py",
        "chain.from_iterable(self._at_work)",
        "self._at_work[-1] if self._at_work else []",
        "tests/faults/test_poison.py -k kills_its_tagger",
    ),
    Guard(
        "a model that cannot be started says why",
        "captiond/worker/process.py",
        "    except Exception as error:",
        "    except ArithmeticError as error:",
        "tests/faults/test_poison.py -k cannot_be_started",
    ),
    Guard(
        "an upload that ends in a stop without a model is answered",
        "captiond/supervisor/supervisor.py",
        "                if self._stop.is_set():\n",
        "                if False:\n",
        "tests/faults/test_clients.py -k in_a_stop_without_a_model",
    ),
    Guard(
        "a damaged caption is no caption",
        "captiond/store/captions.py",
        "except Unreadable as error:",
        "except ArithmeticError as error:",
        "tests/unit/test_store.py -k damaged_caption",
    ),
    Guard(
        "a task whose options are damaged fails",
        "captiond/store/claims.py",
        "    except Unreadable:\n",
        "    except ArithmeticError:\n",
        "tests/unit/test_store.py -k options_are_damaged",
    ),
    Guard(
        "a start that the machine refuses is tried again",
        "captiond/supervisor/places.py",
        "except OSError as error:",
        "except ArithmeticError as error:",
        "tests/unit/test_supervision.py -k the_machine_refuses",
    ),
    Guard(
        "nobody goes over to HTTP/2",
        "captiond/web/server.py",
        "    disable_http2()\n",
        "",
        "tests/integration/test_uploads.py -k http2",
    ),
    Guard(
        "a kill weighs less than a crash",
        "captiond/jobs.py",
        "cls.KILLED if exit_code == -signal.SIGKILL else cls.CRASHED",
        "cls.CRASHED",
        "tests/unit/test_jobs.py",
    ),
    Guard(
        "a stopped process is told from a hung one",
        "captiond/processes/children.py",
        '.split()[0] == "T"',
        '.split()[0] == "?"',
        "tests/faults/test_poison.py -k model_processes_are_stopped",
    ),
    Guard(
        "a batch that does not fit is split",
        "captiond/worker/runner.py",
        "        except OutOfMemory as error:\n",
        "        except ZeroDivisionError as error:\n",
        "tests/faults/test_poison.py -k does_not_fit_into_memory",
    ),
    Guard(
        "a device's error ends the process",
        "captiond/captioners/memory.py",
        "        if not any(message in str(error) for message in OUT_OF_MEMORY_MESSAGES):\n"
        "            raise\n",
        "",
        "tests/faults/test_poison.py -k device_error",
    ),
    Guard(
        "a hung process is replaced",
        "captiond/supervisor/watch.py",
        "        if self.running > self.batch_ticks:\n",
        "        if self.running > 10**9:\n",
        "tests/faults/test_poison.py -k a_batch_that_never_ends",
    ),
    Guard(
        "an interactive image that lost its process twice is answered",
        "captiond/supervisor/dispatch.py",
        "spent = [work for work in lost if work.attempt >= MAX_ATTEMPTS]",
        "spent: list[Work] = []",
        "tests/faults/test_poison.py -k an_interactive_image",
    ),
    Guard(
        "what a dead model process held waits again",
        "captiond/supervisor/supervisor.py",
        "        await self._requeue(child.name, loss)\n",
        "",
        "tests/faults/test_kills.py -k model_processes_are_killed",
    ),
    Guard(
        "work that nobody told of is found",
        "captiond/supervisor/supervisor.py",
        "            self._bulk_waits = True\n            self._stir()\n",
        "",
        "tests/faults/test_poison.py -k can_be_retried",
    ),
    Guard(
        "children die with the supervisor",
        "captiond/processes/start.py",
        "    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:\n",
        "    if False:\n",
        "tests/faults/test_kills.py -k the_supervisor_is_killed",
    ),
    Guard(
        "what an earlier life left waits again",
        "captiond/supervisor/supervisor.py",
        "        requeued = await leases.recover(self._engine, self._node)\n",
        "        requeued = 0\n",
        "tests/faults/test_kills.py -k a_killed_supervisor_had_claimed",
    ),
    Guard(
        "what a dead web process left in the spool is swept",
        "captiond/supervisor/supervisor.py",
        "self._spool.sweep, keep, owner=child.name)",
        "len, keep)",
        "tests/faults/test_kills.py -k web_processes_are_killed",
    ),
    Guard(
        "an accepted upload is on disk",
        "captiond/spool.py",
        "            os.fdatasync(self._descriptor)",
        "            pass",
        "tests/faults/test_disk.py -k upload_that_cannot",
    ),
    Guard(
        "the name of an accepted upload is on disk",
        "captiond/spool.py",
        "            sync_folder(self._path.parent)\n",
        "            pass\n",
        "tests/faults/test_disk.py -k name_that_cannot",
    ),
    Guard(
        "a full disk is told",
        "captiond/web/uploads.py",
        "    if error.errno in FULL:\n",
        "    if False:\n",
        "tests/faults/test_disk.py -k a_full_disk",
    ),
    Guard(
        "results wait for room",
        "captiond/store/patience.py",
        "        except StoreError as error:\n",
        "        except ZeroDivisionError as error:\n",
        "tests/faults/test_disk.py -k results_wait",
    ),
    Guard(
        "results that wait for room hang nowhere",
        "captiond/worker/pipeline.py",
        "        self._report_captioning()\n        self._reporter.tagging_failed",
        "        self._reporter.tagging_failed",
        "tests/faults/test_disk.py -k results_wait",
    ),
    Guard(
        "a stop does not wait for room",
        "captiond/supervisor/supervisor.py",
        "            place.cancel()\n",
        "            pass\n",
        "tests/faults/test_disk.py -k a_stop_does_not",
    ),
    Guard(
        "a commit under way keeps its file",
        "captiond/web/uploads.py",
        "        await asyncio.wait([running])\n",
        "        pass\n",
        "tests/unit/test_acceptance.py -k cancelled",
    ),
    Guard(
        "who waits on a connection does not wait for a task",
        "captiond/worker/known.py",
        'join(f"{work.lane.value}\\0{key}", work.ticket)',
        "join(key, work.ticket)",
        "tests/integration/test_lanes.py -k the_same_one",
    ),
    Guard(
        "a damaged database is refused",
        "captiond/store/migrate.py",
        "            if damage is not None:\n",
        "            if False:\n",
        "tests/faults/test_disk.py -k damaged_database",
    ),
    Guard(
        "a body must come to its end in time",
        "captiond/web/uploads.py",
        "asyncio.timeout(limits.upload_seconds)",
        "asyncio.timeout(None)",
        "tests/faults/test_clients.py -k crawling",
    ),
    Guard(
        "an unread body is drained",
        "captiond/web/app.py",
        "return DrainUnreadBody(app, seconds=services.settings.limits.upload_seconds)",
        "return app",
        "tests/faults/test_clients.py -k refused_large",
    ),
    Guard(
        "a broken upload leaves no file",
        "captiond/web/uploads.py",
        "            self._writer.discard()\n",
        "            pass\n",
        "tests/faults/test_clients.py -k cut_anywhere",
    ),
    Guard(
        "a key is one task's",
        "captiond/store/tasks.py",
        "    if task.key is None:\n        return None\n",
        "    return None\n",
        "tests/faults/test_clients.py -k the_same_key",
    ),
    Guard(
        "who goes is noticed",
        "captiond/web/disconnects.py",
        '["type"] != "http.disconnect"',
        '["type"] != "never"',
        "tests/faults/test_clients.py -k is_gone",
    ),
    Guard(
        "a stop keeps its deadline",
        "captiond/supervisor/supervisor.py",
        "asyncio.timeout(seconds):\n                for children",
        "asyncio.timeout(None):\n                for children",
        "tests/faults/test_clients.py -k does_not_react",
    ),
    Guard(
        "one service for a data folder",
        "captiond/supervisor/lock.py",
        "            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n",
        "            pass\n",
        "tests/integration/test_starting.py -k a_second_service",
    ),
)


def fails_without(guard: Guard, folder: Path) -> bool:
    """Whether the guard's test fails in a copy of the project that has no such guard."""
    for name in COPIED:
        source, target = PROJECT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    put(folder, *IMPATIENT)
    put(folder, guard.file, guard.there, guard.instead)
    file, *chosen = guard.test.split()
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, *chosen]
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        check=False,
    )
    if done.returncode not in {0, 1}:  # 1: a test failed; all else: none was run
        raise SystemExit(done.stdout.decode())
    return done.returncode == 1


def put(folder: Path, file: str, there: str, instead: str) -> None:
    text = (folder / file).read_text()
    if text.count(there) != 1:
        raise SystemExit(f"{file}: is there {text.count(there)} times: {there!r}")
    (folder / file).write_text(text.replace(there, instead))


def main(words: list[str]) -> None:
    held = True
    for guard in GUARDS:
        if words and not any(word in guard.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            fails = fails_without(guard, Path(folder))
        held = held and fails
        verdict = "fails without it" if fails else "PASSES WITHOUT IT"
        sys.stdout.write(f"{verdict:18} {guard.name} ({guard.test})\n")
        sys.stdout.flush()
    raise SystemExit(0 if held else 1)


if __name__ == "__main__":
    main(sys.argv[1:])
