"""`captiond bench` with the embedded model: a whole run, and a Ctrl-C in the middle."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.patience import PATIENCE
from tests.service import MODEL, ONE_THREAD, captiond, wait_for, wait_until_gone


def test_every_figure_is_there_and_plausible(tmp_path: Path) -> None:
    quick = ("--quick", "--rounds", "1", "--json", "--model", MODEL)
    result = captiond("bench", *quick, cwd=tmp_path, **ONE_THREAD)
    assert result.returncode == 0
    first, *following = result.stderr.splitlines()
    assert first == "captiond: preparing the model"
    progress = re.compile(r"captiond: measurement \d+ of \d+: .+")
    for line in following:
        assert progress.fullmatch(line) or json.loads(line)["level"] == "info"
    report = json.loads(result.stdout)
    assert report["model"] == MODEL
    figures = report["figures"]
    assert figures["product"]["rate"] > 1e9
    assert figures["memory"]["rate"] > 1e8
    assert set(figures["floors"]) == {"fp32", "bf16", "int8"}
    for floor in figures["floors"].values():
        assert floor["product"]["rate"] > 1e9
        assert all(seconds > 0 for seconds in floor["seconds"].values())
    assert [figure["batch_size"] for figure in figures["engine"]] == report["plan"]["sizes"]
    for figure in figures["engine"]:
        assert min(figure["floor"], figure["captiond"], figure["generate"]) > 0
        assert figure["of_floor"] == figure["floor"] / figure["captiond"]
        assert figure["ratio"] == figure["captiond"] / figure["generate"]
        assert 1 <= figure["new_tokens"] <= 19
        assert figure["same"] == 1, "fp32 has the tokens of generate"
    assert [figure["clients"] for figure in figures["service"]] == report["plan"]["clients"]
    for figure in figures["service"]:
        assert figure["images_per_second"] > 0
        assert 0 < figure["p50"] <= figure["p99"]
        assert 0 < sum(figure["idle"].values()) < 1
    assert report["starting_bytes"] > 100e6
    assert report["peak_bytes"] > 100e6
    assert report["suggested"]["batch_size"] in report["plan"]["sizes"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "captiond", "bench", "--quick", "--rounds", "1000"]
    with subprocess.Popen(
        [*command, "--model", MODEL],
        cwd=tmp_path,
        env={**os.environ, **ONE_THREAD, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        bench = psutil.Process(process.pid)
        # The service, its web and model process, and a decoder.
        children = wait_for(lambda: at_least(4, bench), "the service")
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output[0]) == (130, "")
    assert output[1].endswith("captiond: stopped\n")
    assert "Traceback" not in output[1]
    wait_until_gone(children)
    assert list(tmp_path.glob("captiond-bench-*")) == []


def at_least(number: int, process: psutil.Process) -> list[psutil.Process] | None:
    assert process.status() != psutil.STATUS_ZOMBIE
    children = process.children(recursive=True)
    return children if len(children) >= number else None
