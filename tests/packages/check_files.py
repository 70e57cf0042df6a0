"""The files in config/, read by the tools that they are for, and the list of image contents."""

import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
TOOLS = Path(os.environ["PACKAGES"])  # an environment with programs that only these checks need
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or "valid")
"""


def run(*command: str | Path, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_kubernetes_accepts_the_example() -> None:
    run(TOOLS / "kubernetes-validate", "--strict", CONFIG / "kubernetes" / "captiond.yaml")


def test_kubernetes_accepts_the_pods_of_the_job_of_ray(tmp_path: Path) -> None:
    """The operator makes them; it has no program that checks the whole job."""
    cluster = yaml.safe_load((CONFIG / "ray" / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    for number, group in enumerate([cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        (tmp_path / f"{number}.yaml").write_text(yaml.safe_dump(pod))
        run(TOOLS / "kubernetes-validate", "--strict", tmp_path / f"{number}.yaml")


def test_compose_accepts_the_example_and_finds_each_file() -> None:
    file = CONFIG / "compose" / "compose.yml"
    shown = run("docker-compose", "--file", file, "--profile", "monitoring", "config")
    assert "captiond:" in shown
    mounted = [
        line.split(":")[0].split()[-1] for line in shown.splitlines() if line.endswith(":ro")
    ]
    assert len(mounted) == 5
    assert [path for path in mounted if not Path(path).exists()] == []


def test_empty_variables_of_the_compose_file_mean_the_defaults() -> None:
    file = CONFIG / "compose" / "compose.yml"
    shown = run("env", "MODEL=", "CPUS=", "docker-compose", "--file", file, "config")
    assert "CAPTIOND_MODEL__NAME: Salesforce/blip-image-captioning-base" in shown


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "captiond.service"
    text = (CONFIG / unit.name).read_text()
    unit.write_text(text.replace("/opt/captiond/bin/captiond", sys.executable))
    run("systemd-analyze", "verify", "--man=no", unit)
    shown = run("systemd-analyze", "security", "--offline=true", "--no-pager", unit)
    sys.stdout.write(shown.splitlines()[-1])  # pytest -rP shows it


def test_the_list_of_contents_is_cyclonedx() -> None:
    document = run(sys.executable, ROOT / "tools" / "image" / "sbom.py", "captiond", "0.1.0")
    assert len(json.loads(document)["components"]) > 50
    assert run(TOOLS / "python", "-c", VALIDATE, text=document) == "valid\n"
    damaged = document.replace('"library"', '"book"')
    assert run(TOOLS / "python", "-c", VALIDATE, text=damaged) != "valid\n", "the check can fail"
