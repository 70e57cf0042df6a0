"""The package as people install it: it is built, checked, and used outside of a checkout."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.service import DATA, running

ROOT = Path(__file__).parents[2]
TOOLS = Path(os.environ["PACKAGES"])


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(TOOLS / "python", "-m", "build", "--outdir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def installed(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with captiond as its wheel has it. Its dependencies come from this environment."""
    target = tmp_path_factory.mktemp("site")
    (wheel,) = distributions.glob("*.whl")
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", target, wheel)
    return target


def run(*command: str | Path, **environ: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_package_index_would_accept_it(distributions: Path) -> None:
    shown = run(TOOLS / "twine", "check", "--strict", *distributions.iterdir())
    assert shown.count("PASSED") == 2


def test_the_wheel_has_everything_that_captiond_reads(distributions: Path) -> None:
    (wheel,) = distributions.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "captiond/captiond.toml",
        "captiond/migrations/env.py",
        "captiond/embedded/scenes/model.safetensors",
        "captiond/embedded/english/meta.json",
        "captiond/web/static/index.html",
        "captiond/web/openapi/examples.json",
        "captiond/py.typed",
    ):
        assert name in names
    assert not [name for name in names if name.startswith(("tests", "tools", "docs"))]


def test_it_serves_outside_of_a_checkout(installed: Path, tmp_path: Path) -> None:
    show = ("-P", "-c", "import captiond; print(captiond.__file__)")  # -P: not from this folder
    where = run(sys.executable, *show, PYTHONPATH=str(installed))
    assert where.strip() == str(installed / "captiond" / "__init__.py")
    with running(tmp_path / "data", PYTHONPATH=str(installed)) as service:
        with (DATA / "red_circle.png").open("rb") as picture:
            answer = service.client.post("/caption", files={"image": picture})
        assert answer.json()["caption"] == "a red circle"
        assert service.client.get("/docs").is_success
        assert service.stop() == 0


def test_the_metadata_names_the_supported_pythons() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {line.rpartition(" ")[2] for line in project["classifiers"] if " :: 3." in line}
    assert named == {"3.11", "3.12", "3.13"}
    assert project["requires-python"] == ">=3.11"
