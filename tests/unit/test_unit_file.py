"""The systemd unit: what it allows to the service. `systemd-analyze security` gives it 1.4."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).parents[2] / "config" / "captiond.service"
ALLOWED = 2.5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_the_unit_is_confined() -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Overall exposure level for captiond.service: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze cannot judge a file: {done.stderr}")
    assert float(found[1]) < ALLOWED


def test_image_decoders_may_confine_themselves() -> None:
    """systemd does not count these calls among those of ordinary services."""
    unit = UNIT.read_text()
    for call in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
        assert call in unit
