"""What the container images are made with: what is removed from them, and what is listed."""

import re
import tomllib
from pathlib import Path

import pytest

from tools.image.requirements import requirements
from tools.image.sbom import document, python_components
from tools.image.slim import unused

ROOT = Path(__file__).parents[2]
DOCKERFILES = [ROOT / "Dockerfile.cpu", ROOT / "Dockerfile.gpu"]


def test_only_what_nobody_uses_is_removed(tmp_path: Path) -> None:
    kept = (
        "torch/lib/libtorch_cpu.so",
        "torch/bin/torch_shm_manager",
        "torch/testing/__init__.py",
        "triton/backends/nvidia/include/cuda.h",
        "spacy/lang/en/__init__.py",
        "captiond/embedded/scenes/model.safetensors",
    )
    removed = (
        "torch/include/torch/extension.h",
        "torch/test/test_nn.py",
        "torch/bin/protoc",
        "torch/lib/libbackend_test.so",
        "spacy/tests/test_cli.py",
        "spacy/tokens/doc.pyx",
        "sympy/core/tests/test_args.py",
    )
    for name in (*kept, *removed):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    found = list(unused(tmp_path))
    gone = {name for name in (*kept, *removed) if is_in(tmp_path / name, found)}
    assert gone == set(removed)


def is_in(path: Path, found: list[Path]) -> bool:
    return any(path == each or each in path.parents for each in found)


def test_an_image_installs_what_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = requirements(ROOT / "pyproject.toml", ["fast", "heif"])
    assert set(project["dependencies"]) < set(found)
    assert {"uvloop>=0.23", "pi-heif>=1.4"} <= set(found)


def test_the_list_of_contents_has_each_distribution_once() -> None:
    components = list(python_components())
    names = [component["name"] for component in components]
    assert len(names) == len(set(names))
    assert {"captiond", "torch", "pydantic-core"} <= set(names)
    starlette = next(each for each in components if each["name"] == "starlette")
    assert starlette["purl"] == f"pkg:pypi/starlette@{starlette['version']}"
    assert starlette["licenses"]
    whole = document("captiond", "1.0")
    assert whole["metadata"]["component"]["version"] == "1.0"
    assert whole["specVersion"] == "1.6"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_both_images_are_made_in_the_same_way(path: Path) -> None:
    """They differ in torch, the compiler for a GPU's kernels, and the variables of its driver."""
    text = path.read_text()
    assert text.count("FROM ${BASE}") == 2, "an argument can pin the base by its digest"
    assert "\nUSER captiond\n" in text
    assert 'CMD ["python", "-m", "captiond.healthcheck"]' in text
    assert "127.0.0.1" not in text, "the health check finds the address itself"
    labels = set(re.findall(r"org\.opencontainers\.image\.(\w+)=", text))
    assert labels == {"title", "description", "licenses", "version", "revision", "created"}
    (torch,) = re.findall(r"pip install torch==(\S+)", text)
    assert f"torch=={torch}\n" in (ROOT / "constraints.txt").read_text()
    lines = [
        line for line in text.splitlines() if line.startswith(("COPY", "ENTRYPOINT", "VOLUME"))
    ]
    other = next(each for each in DOCKERFILES if each != path).read_text().splitlines()
    assert [line for line in lines if line not in other] == []
