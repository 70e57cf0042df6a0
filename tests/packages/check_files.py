"""The files in config/, read by the tools that they are for, and the list of image contents."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from captiond.databaseurl import DatabaseAddress
from captiond.jobs import NewImage, NewTask, SpooledImage
from captiond.settings.sources import Layer, checked, layers_of
from captiond.store import shards, tasks
from captiond.store.engine import make_engine
from captiond.store.migrate import prepare_database
from captiond.store.shards import NewImport
from captiond.supervisor.neighbours import check_role
from tests.postgres import postgres_server

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
TOOLS = Path(os.environ["PACKAGES"])  # an environment with programs that only these checks need
VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()) or "valid")
"""
# Grafana's library keeps the fields that it knows, and leaves out all others.
KNOWN_TO_GRAFANA = """
import json, sys
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
register_default_plugins()
print(JSONEncoder().encode(Dashboard.from_json(json.load(sys.stdin))))
"""


def run(*command: str | Path, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["captiond.yaml", "nodes.yaml"])
def test_kubernetes_accepts_the_examples(name: str) -> None:
    run(TOOLS / "kubernetes-validate", "--strict", CONFIG / "kubernetes" / name)


def test_the_nodes_on_kubernetes_have_settings_that_captiond_knows() -> None:
    documents = documents_of("nodes.yaml")
    deployments = [each for each in documents if each["kind"] == "Deployment"]
    secrets = next(each for each in documents if each["kind"] == "Secret")["stringData"]
    file = next(each for each in documents if each["kind"] == "ConfigMap")["data"]["captiond.toml"]
    roles = []
    for deployment in deployments:
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        variables = {each["name"]: each["value"] for each in container["env"]}
        layers = [
            *layers_of(None, {**variables, **secrets}, {}),
            Layer("file", tomllib.loads(file)),
        ]
        settings = checked(layers)
        check_role(settings)
        roles.append(settings.node.role)
        grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        assert grace > settings.server.shutdown_seconds + 10
    assert roles == ["web", "worker"]


def test_keda_scales_the_workers_by_a_query_that_the_database_answers() -> None:
    """KEDA's schema is in no package, so its objects are checked here, and the query is run."""
    scaled, authentication, secret = documents_of("keda.yaml")
    assert scaled["apiVersion"] == authentication["apiVersion"] == "keda.sh/v1alpha1"
    assert (scaled["kind"], authentication["kind"]) == ("ScaledObject", "TriggerAuthentication")
    names = {each["metadata"]["name"] for each in documents_of("nodes.yaml")}
    assert scaled["spec"]["scaleTargetRef"]["name"] in names
    assert 0 < scaled["spec"]["minReplicaCount"] < scaled["spec"]["maxReplicaCount"]
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["type"] == "postgresql"
    assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
    (reference,) = authentication["spec"]["secretTargetRef"]
    assert reference["name"] == secret["metadata"]["name"]
    assert reference["key"] in secret["stringData"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    with postgres_server() as server:
        database = server.create_database()
        asyncio.run(migrated(server.address(database)))
        server.execute("CREATE ROLE captiond_queue")
        (grant,) = re.findall(r"GRANT .*;", (CONFIG / "kubernetes" / "keda.yaml").read_text())
        server.execute(grant, database)
        options = "-c role=captiond_queue"
        with psycopg.connect(server.dsn(database), options=options, autocommit=True) as connection:
            query = trigger["metadata"]["query"]
            assert connection.execute(query).fetchall() == [(0,)]
            asyncio.run(filled(server.address(database)))
            assert connection.execute(query).fetchall() == [(2 + 3,)]


def documents_of(name: str) -> list[Any]:
    return list(yaml.safe_load_all((CONFIG / "kubernetes" / name).read_text()))


async def migrated(address: DatabaseAddress) -> None:
    engine = make_engine(address)
    await prepare_database(engine)
    await engine.dispose()


async def filled(address: DatabaseAddress) -> None:
    """Let two images of a task wait, three of a queued import, and some that no worker captions."""
    engine = make_engine(address)
    images = tuple(NewImage("a", SpooledImage("s", n, 9, "sha")) for n in range(2))
    await tasks.create_task(engine, NewTask("task", "s", images, 1.0))
    for name, queued in (("queued", True), ("own", False), ("cancelled", True)):
        new = NewImport(name, ("/photos",), "uri", f"/{name}", "jsonl", 2, 1.0, queued)
        await shards.join_import(engine, new)
        assert await shards.begin_listing(engine, name, "lister")
        assert await shards.add_shards(engine, name, "lister", [["/1.png", "/2.png"], ["/3.png"]])
    await shards.cancel_import(engine, "cancelled", now=2.0)
    await engine.dispose()


def test_compose_accepts_the_nodes() -> None:
    file = CONFIG / "compose" / "nodes.yml"
    secrets = ("DATABASE_PASSWORD=one", "STORAGE_KEY=two", f"WEBHOOK_SECRET=whsec_{'A' * 32}")
    shown = yaml.safe_load(run("env", *secrets, "docker-compose", "--file", file, "config"))
    for name, role in (("web", "web"), ("worker", "worker")):
        settings = checked(layers_of(None, shown["services"][name]["environment"], {}))
        check_role(settings)
        assert settings.node.role == role
    assert shown["services"]["worker"]["deploy"]["replicas"] == 3


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


def lost(before: Any, after: Any, place: str = "") -> Iterator[str]:
    """Yield the places of what is not in `after` as it is in `before`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            yield from lost(value, after.get(key), f"{place}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for number, values in enumerate(zip(before, after, strict=True)):
            yield from lost(*values, f"{place}[{number}]")
    elif before != after:
        yield place


def unknown_to_grafana(dashboard: str) -> list[str]:
    known = run(TOOLS / "python", "-c", KNOWN_TO_GRAFANA, text=dashboard)
    return list(lost(json.loads(dashboard), json.loads(known)))


def test_grafana_knows_every_field_of_the_dashboard() -> None:
    dashboard = (CONFIG / "grafana" / "captiond.json").read_text()
    assert unknown_to_grafana(dashboard) == []
    damaged = json.loads(dashboard)
    damaged["panels"][1]["targets"][0]["expresion"] = "up"
    damaged["panels"][1]["options"]["colour"] = "red"
    found = unknown_to_grafana(json.dumps(damaged))
    assert sorted(found) == [".panels[1].options.colour", ".panels[1].targets[0].expresion"]
