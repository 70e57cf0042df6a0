"""The systemd unit: what it allows to the service. `systemd-analyze security` gives it 1.4."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.patience import PATIENCE

UNIT = Path(__file__).parents[2] / "config" / "captiond.service"
ALLOWED = 2.5


with_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)


@with_systemd
def test_systemd_understands_each_line(tmp_path: Path) -> None:
    """It warns of an unknown key or value, and the service would start without it."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/captiond/bin/captiond", sys.executable))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    about_ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, about_ours) == (0, [])
    unit.write_text(unit.read_text().replace("WatchdogSec", "WatchDogSec"))
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert "WatchDogSec" in done.stderr, "the check can fail"


@with_systemd
def test_the_unit_is_confined() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    found = re.search(r"Overall exposure level for captiond.service: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot judge a file: {done.stderr}")
    assert float(found[1]) < ALLOWED


def test_the_unit_watches_the_service_and_lets_it_open_enough_files() -> None:
    lines = UNIT.read_text().splitlines()
    for line in ("Type=notify", "WatchdogSec=90", "LimitNOFILE=65536", "Restart=always"):
        assert line in lines


def test_image_decoders_may_confine_themselves() -> None:
    """systemd does not count these calls among those of ordinary services."""
    unit = UNIT.read_text()
    for call in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        assert call in unit
