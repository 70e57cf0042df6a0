"""What `tools.gpu` plans, runs, counts and prints; its parts themselves need minutes, or a GPU."""

import json
import re
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from transformers.models.blip.modeling_blip import BlipForConditionalGeneration

from captiond.captioners.blip.cost import BlipShape
from captiond.captioners.blip.random_weights import config_of
from captiond.captioners.files import find_model
from captiond.settings.config import Settings
from captiond.settings.sources import load_settings
from tools.gpu import runner
from tools.gpu.__main__ import ROOT, arguments, results_in
from tools.gpu.clients import Target, Window, drive
from tools.gpu.job import PROJECTED_WITH_GRAPHS, Job, best_way
from tools.gpu.part import as_line
from tools.gpu.parts.service import write_model
from tools.gpu.plan import (
    COUNTS,
    FULL,
    LEAST_SECONDS,
    PARTS,
    SMALL,
    TOTAL_SECONDS,
    Part,
    allowance,
    chosen,
)
from tools.gpu.report import report
from tools.gpu.rows import (
    ROWS,
    Agreement,
    Equality,
    Kernel,
    Note,
    Outcome,
    Rate,
    Resized,
    Row,
    Served,
    Timing,
)
from tools.gpu.runner import Results, Run, load, run_all, take
from tools.gpu.serving import Setup, kind_of
from tools.gpu.tables import BASE, SHAPES, TABLES, floor_of, table

MACHINE = {"device": "a GPU", "counts": "full"}
ENGINE = Timing(
    "base", "captiond", "bf16", PROJECTED_WITH_GRAPHS, 64, 19, 0.05, 0.03, 2_000_000_000
)
GENERATE = replace(ENGINE, engine="generate", way="", seconds=0.5, encoding=None)
ALONE = replace(GENERATE, precision="fp32", batch=1, seconds=0.4)
RATES = (Rate("product", "bf16", "linear", 700e12), Rate("memory", "bf16", "copy", 4e12))
SERVED = Served(
    8, 512, 64, False, True, 900.0, 0.4, 0.6, {"503": 2}, {"decoding": 0.2}, {"decoders": 9.0}
)
EACH: dict[str, list[Row]] = {
    "floor": [*RATES],
    "equality": [Equality("captiond/scenes", PROJECTED_WITH_GRAPHS, "greedy", 3, 3, 3, 2)],
    "engine": [ENGINE],
    "generate": [GENERATE, ALONE],
    "resize": [Resized("640 x 480", 256, 8, 8, 0.01, 0.02)],
    "service": [SERVED],
    "large": [replace(ENGINE, model="large")],
    "profile": [Kernel("a kernel", 3.5, 12)],
    "agreement": [Agreement("bf16", 2000, 1990, 1995)],
}


# ---------------------------------------------------------------- the plan


def test_all_parts_fit_into_nine_minutes_together() -> None:
    left = TOTAL_SECONDS
    for part in PARTS:
        left -= allowance(part, left) or 0
    assert left >= 0
    installing, ending = 20, 10
    assert TOTAL_SECONDS + installing + ending <= 9 * 60


def test_a_part_gets_what_is_left_and_none_if_that_is_too_little() -> None:
    part = Part("engine", 90)
    assert allowance(part, 300) == 90
    assert allowance(part, 300, stretch=2) == 180
    assert allowance(part, 40) == 40
    assert allowance(part, LEAST_SECONDS - 1) is None


def test_parts_are_chosen_by_name_and_keep_their_order() -> None:
    assert chosen([]) == PARTS
    assert [part.name for part in chosen(["service", "floor"])] == ["floor", "service"]
    with pytest.raises(ValueError, match="no such part: flor; there are floor"):
        chosen(["flor"])


def test_every_part_has_a_module_rows_and_a_table() -> None:
    names = {part.name for part in PARTS}
    modules = {path.stem for path in (ROOT / "tools" / "gpu" / "parts").glob("[!_]*.py")}
    assert names == modules == ROWS.keys() == TABLES.keys() == EACH.keys()


def test_the_largest_batches_come_first() -> None:
    for counts in (FULL, SMALL):
        assert list(counts.batches) == sorted(counts.batches, reverse=True)


def test_later_parts_take_the_smallest_batch_that_is_nearly_as_quick_in_the_best_way() -> None:
    def timing(way: str, batch: int, rate: float) -> Timing:
        return replace(ENGINE, way=way, batch=batch, seconds=batch / rate)

    slow = [timing("no graphs, projected", batch, 500 + batch) for batch in (256, 64)]
    fast = [timing("graphs, absorbed", *row) for row in ((256, 2000), (128, 1950), (64, 1900))]
    assert best_way([*slow, *fast]) == ("graphs, absorbed", 128)
    assert best_way([]) == (PROJECTED_WITH_GRAPHS, 64)


# ---------------------------------------------------------------- running


def as_program(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Let every part be this program."""
    monkeypatch.setattr(runner, "COMMAND", (sys.executable, "-c", program))


def run_of(folder: Path, seconds: float = 60) -> tuple[Run, Results]:
    run = Run("cpu", "small", seconds, 1, folder, folder / "parts.log")
    return run, Results(folder / "results.json", MACHINE)


def test_rows_and_notes_of_a_part_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [as_line(ENGINE), as_line(Note("no time")), "what a library prints"]
    program = f"import sys; job = sys.stdin.read(); print({chr(10).join(lines)!r})"
    as_program(monkeypatch, program)
    run, results = run_of(tmp_path)
    run_all(run, chosen(["engine"]), results, lambda _: None)
    done = results.parts["engine"]
    assert (done.state, done.rows) == ("finished", [ENGINE])
    assert done.notes == ["no time", "what a library prints"]
    assert load(results.path) == results


def test_a_part_is_ended_at_its_deadline_and_what_it_had_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second part, which gets the rows of the first one, still runs."""
    monkeypatch.setattr(runner, "GRACE_SECONDS", 0)
    program = f"""
import json, sys, time
job = json.load(sys.stdin)
if job["part"] == "engine":
    print({as_line(ENGINE)!r}, flush=True)
    time.sleep(600)
print(json.dumps({{"note": {{"text": str(job["timings"][0]["batch"])}}}}))
"""
    as_program(monkeypatch, program)
    run, results = run_of(tmp_path)
    parts = (Part("engine", LEAST_SECONDS), Part("generate", 60))
    begun = time.monotonic()
    run_all(run, parts, results, lambda _: None)
    assert time.monotonic() - begun < 300
    assert (results.parts["engine"].state, results.timings) == ("out of time", [ENGINE])
    assert results.parts["generate"] == replace(
        Outcome("finished", notes=["64"]), seconds=results.parts["generate"].seconds
    )


def test_a_part_that_fails_is_named_and_its_error_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_program(monkeypatch, "raise SystemExit('no such device')")
    run, results = run_of(tmp_path)
    run_all(run, chosen(["engine"]), results, lambda _: None)
    assert results.parts["engine"].state == "failed"
    assert "no such device" in run.log.read_text()


def test_no_part_starts_when_the_time_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_program(monkeypatch, "raise SystemExit('it was started')")
    run, results = run_of(tmp_path, seconds=LEAST_SECONDS - 1)
    run_all(run, PARTS, results, lambda _: None)
    assert {done.state for done in results.parts.values()} == {"left out: the time is over"}
    assert not run.log.exists()


def test_a_job_travels_as_json() -> None:
    job = Job("large", "cuda", "full", "/tmp/x", 30, [ENGINE])
    values = asdict(job)
    del values["begun"]
    same = Job.from_json(json.dumps(values))
    assert replace(same, begun=job.begun) == job
    assert 0 < same.left() <= 30
    assert same.counts == COUNTS["full"]


def test_a_later_run_adds_to_the_results_of_the_same_machine(tmp_path: Path) -> None:
    results = Results(tmp_path / "results.json", MACHINE, {"engine": Outcome("finished")})
    results.save()
    assert results_in(results.path, MACHINE).parts.keys() == {"engine"}
    assert results_in(results.path, {**MACHINE, "device": "another"}).parts == {}
    assert results_in(tmp_path / "none.json", MACHINE).parts == {}


# ---------------------------------------------------------------- the report


def test_the_shapes_are_those_of_the_models_that_are_timed() -> None:
    for name in ("base", "large"):
        assert SHAPES[name] == BlipShape.of(config_of(name).to_dict())


def test_a_batch_at_the_machines_rates_reaches_the_floor() -> None:
    floor = floor_of(RATES, FULL)
    least = floor(ENGINE)
    assert least is not None
    assert least == pytest.approx(64 * 135e9 / 700e12, rel=0.2)  # of which the encoder is most
    assert floor(replace(ENGINE, precision="fp16")) == least
    assert floor(ALONE) is None, "no rate was measured in fp32"
    cut = floor_of(RATES, SMALL)(ENGINE)
    assert cut is not None
    assert least / (2 * BASE.vision_layers) < cut < least / 4, "a rehearsal's models are cut short"


def test_the_report_has_every_part_and_begins_with_what_counts() -> None:
    parts = {name: Outcome("finished", 1.5, rows) for name, rows in EACH.items()}
    parts["large"].notes.append("large, batch 256: no memory")
    text = report(MACHINE, parts)
    head, *_ = text.partition("## ")
    assert "Engine, base: 1,280 images/s (bf16, graphs, projected, batch 64)" in head
    assert "10.0 x `generate` at its best (bf16, batch 64)" in head
    assert "512 x `generate` in fp32, one image at a time" in head
    assert "Service: 900 images/s over HTTP with 8 web processes and 512 clients." in head
    assert "Equality: 3 of 3 captions" in head
    assert "Agreement in bf16: 99.50% of 2,000 right." in head
    for name in EACH:
        assert f"## {name}: finished, 1.5 s" in text
    assert "- large, batch 256: no memory" in text
    assert (
        "| 8 | full | GPU | 512 | 900 | 400.0 | 600.0 | 2 | decoding 20.0% | decoders 9.0 |" in text
    )


def test_the_report_of_a_run_that_was_killed_at_once() -> None:
    assert "## floor: running, 0 s" in report(MACHINE, {"floor": Outcome()})


def test_a_cell_cannot_break_its_table() -> None:
    assert table(("a", "b"), [("x|y", "1")]) == "| a | b |\n| --- | --- |\n| x/y | 1 |"


def test_a_line_that_is_no_row_of_the_part_is_a_note() -> None:
    done = Outcome()
    take(b'{"row": {"unknown": 1}}\n', "engine", done)
    take(b"[1]\n", "engine", done)
    assert done == Outcome(notes=['{"row": {"unknown": 1}}', "[1]"])


# ---------------------------------------------------------------- clients and service


class Handler(BaseHTTPRequestHandler):
    """Answers every third request with 503."""

    protocol_version = "HTTP/1.1"
    bodies: list[bytes]

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        answer = b'{"caption": "a red circle"}'
        self.send_response(503 if len(self.bodies) % 3 == 0 else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.bodies = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        Thread(target=http.serve_forever, args=(0.05,), daemon=True).start()
        yield http
        http.shutdown()


def test_clients_count_the_answers_within_the_window() -> None:
    with server() as http:
        target = Target("127.0.0.1", http.server_port, (b"first", b"second"))
        now = time.monotonic()
        answers = drive(target, 3, Window(now, now, now + 1.5))
    counted = len(answers.seconds) + answers.failures["503"]
    assert 3 <= counted <= len(Handler.bodies)
    assert answers.failures["503"] == pytest.approx(counted / 3, abs=2)
    assert all(0 < seconds < 1.5 for seconds in answers.seconds)
    assert {b"first" in body or b"second" in body for body in Handler.bodies} == {True}


def test_answers_before_and_after_the_window_do_not_count() -> None:
    with server() as http:
        target = Target("127.0.0.1", http.server_port, (b"image",))
        now = time.monotonic()
        answers = drive(target, 1, Window(now, now + 0.5, now + 0.5))
    assert len(Handler.bodies) > 0
    assert (answers.seconds, dict(answers.failures)) == ([], {})


def test_a_server_that_is_gone_is_a_failure() -> None:
    with server() as http:
        port = http.server_port
    now = time.monotonic()
    answers = drive(Target("127.0.0.1", port, (b"image",)), 2, Window(now, now, now + 5))
    assert dict(answers.failures) == {"ConnectionRefusedError": 2}


def test_processes_are_told_apart_by_their_place() -> None:
    parents = {1: 0, 2: 1, 3: 1, 4: 3, 5: 3}
    kinds = [kind_of(pid, 1, parents, {0, 1, 3}) for pid in parents]
    assert kinds == ["supervisor", "web", "model", "decoders", "decoders"]


def test_the_settings_of_the_service_are_ones_that_captiond_knows(tmp_path: Path) -> None:
    path = tmp_path / "captiond.toml"
    path.write_text(Setup(tmp_path, "cuda", 4, 128, jpeg_draft=True, gpu_resize=False).toml())
    settings = load_settings(file=path, environ={}, flags={})
    assert (settings.server.workers, settings.model.batch_size) == (4, 128)
    assert settings.images.jpeg_draft
    assert not settings.images.gpu_resize


def test_the_model_that_is_served_can_be_loaded(tmp_path: Path) -> None:
    job = Job("service", "cpu", "small", str(tmp_path), 600)
    folder = tmp_path / "base"
    write_model(job, folder)
    model = BlipForConditionalGeneration.from_pretrained(folder)
    assert len(model.vision_model.encoder.layers) == 1
    before = (folder / "config.json").stat().st_mtime_ns
    write_model(job, folder)
    assert (folder / "config.json").stat().st_mtime_ns == before, "it was there already"
    assert find_model(Settings.model_validate({"model": {"name": str(folder)}})).folder == folder


# ---------------------------------------------------------------- what the README says


def commands() -> list[str]:
    """The lines of the README's blocks."""
    text = (ROOT / "tools" / "gpu" / "README.md").read_text()
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines()]


def test_the_readmes_commands_are_ones_that_run() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    runs = [line for line in commands() if "run.sh" in line]
    assert len(runs) == 2
    for line in commands():
        assert len(line) < 2000
        if line.startswith("make "):
            assert line.split()[1] in targets
    for line in runs:
        options = arguments(shlex.split(line.partition("run.sh")[2]))
        chosen([name for name in options.parts.split(",") if name])


def test_the_readme_has_every_part_with_its_time() -> None:
    text = (ROOT / "tools" / "gpu" / "README.md").read_text()
    for part in PARTS:
        assert f"| `{part.name}` | {part.seconds} |" in text
