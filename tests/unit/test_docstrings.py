"""The texts that are made of docstrings, also where Python leaves those out (`python -OO`)."""

import json
import os
import subprocess
import sys

import pytest

from captiond.cli.openapi_command import openapi_text
from tests.patience import PATIENCE
from tools.docs import click_app, leaves

PROGRAM = """
import json, sys
from captiond.cli.main import app, run
from captiond.cli.openapi_command import openapi_text
sys.argv = ["captiond", "--version"]
run()
from tools.docs import click_app, leaves
helps = {name: command.help for name, command in leaves("captiond", click_app())}
json.dump({"helps": helps, "openapi": openapi_text()}, sys.stderr)
"""


@pytest.mark.parametrize("level", ["1", "2"])
def test_an_optimized_python_has_every_text(level: str) -> None:
    printed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
        env={**os.environ, "PYTHONOPTIMIZE": level},
    )
    texts = json.loads(printed.stderr)
    assert texts["helps"] == {name: each.help for name, each in leaves("captiond", click_app())}
    assert all(texts["helps"].values())
    assert texts["openapi"] == openapi_text()
