"""Build a container image and use it as an operator does: python -m tools.image.check [DOCKERFILE]

It needs root, buildah, debootstrap and a package index, but no registry, no daemon, and no network
otherwise. The image is built, started as its user with a volume, and asked for captions; its health
check runs behind a proxy that does not answer, and on another port. Then it runs with a read-only
root file system, and finds what it has stored before.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from tools.image.base import local_folders, make_base
from tools.image.container import Container, Image, buildah, enter_namespace, unpacked
from tools.image.extension import build_extension

PROJECT = Path(__file__).parents[2]
PICTURES = PROJECT / "tests" / "data"
LARGEST = {"Dockerfile.cpu": 1.2e9}  # bytes; the image for a GPU has CUDA's libraries in it
PROXY = "http://127.0.0.1:9"  # the discard port: nobody listens
PATIENCE = 300.0
LABELS = ("title", "description", "licenses", "version", "revision", "created")


def build(dockerfile: str, name: str) -> None:
    """Build an image with the packages of this machine's package indexes."""
    make_base()
    volumes = [f"--volume={folder}:{folder}:ro" for folder in local_folders()]
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
    ).stdout.strip()
    labels = {"VERSION": "0.1.0", "REVISION": revision or "none", "CREATED": "2000-01-01T00:00:00Z"}
    arguments = [f"--build-arg={key}={value}" for key, value in labels.items()]
    command = ["buildah", "bud", "--isolation=chroot", "--network=host", "--pull-never"]
    command += ["--format=docker", *volumes, *arguments, f"--file={dockerfile}", f"--tag={name}"]
    subprocess.run([*command, "."], cwd=PROJECT, check=True, stdout=sys.stderr)


class Checks:
    """The checks that have been made, one line for each."""

    def __init__(self) -> None:
        self.passed = 0

    def note(self, text: str) -> None:
        self.passed += 1
        print(f"ok    {text}", flush=True)

    def that(self, holds: bool, text: str, found: object = "") -> None:
        """Note a check that has passed, or end the program."""
        if not holds:
            sys.exit(f"FAIL  {text}: {found}")
        self.note(text)


def wait_for(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        if time.monotonic() > deadline:
            sys.exit(f"FAIL  waited in vain for {what}")
        time.sleep(0.2)


def size_of(image: Image) -> int:
    """Return the size of all files of an image in bytes."""
    done = subprocess.run(
        ["du", "--summarize", "--bytes", image.root], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[0])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


class Service:
    """A container that serves on a port of this machine."""

    def __init__(self, container: Container, log: Path) -> None:
        self.container = container
        self.log = log
        self.client = httpx.Client(
            base_url=f"http://127.0.0.1:{container.environment['CAPTIOND_SERVER__PORT']}",
            timeout=PATIENCE,
            trust_env=False,
        )

    def ready(self) -> bool:
        try:
            return self.client.get("/readyz").is_success
        except httpx.TransportError:
            return False

    def caption(self, picture: Path) -> httpx.Response:
        with picture.open("rb") as file:
            return self.client.post("/caption", files={"image": (picture.name, file)})

    def healthy(self) -> subprocess.CompletedProcess[str]:
        return self.container.run(*self.container.image.health_command)


def container_of(image: Image, folder: Path, user: str = "", **options: bool) -> Container:
    data = folder / f"data{user.replace(':', '-')}"
    data.mkdir(mode=0o700, exist_ok=True)
    uid, gid = map(int, (user or image.user).split(":"))
    os.chown(data, uid, gid)
    variables = {
        "CAPTIOND_SERVER__PORT": str(free_port()),
        "CAPTIOND_MODEL__NAME": "captiond/scenes",
        "CAPTIOND_MODEL__STANDBY": "false",
        "CAPTIOND_IMAGES__TYPES": "jpeg,png,webp,gif,bmp,tiff,avif,heif,jpeg2000,jxl",
        "http_proxy": PROXY,
        "HTTP_PROXY": PROXY,
    }
    return Container(image, data, user=user, environment=variables, **options)


def check_description(image: Image, checks: Checks, name: str) -> None:
    """Check the labels, the size and the list of contents."""
    labels = image.config["Labels"]
    missing = [label for label in LABELS if not labels.get(f"org.opencontainers.image.{label}")]
    checks.that(not missing, "labels", missing)
    size, largest = size_of(image), LARGEST.get(name, float("inf"))
    checks.that(size < largest, f"{size / 1e6:.0f} MB of files", f"more than {largest:g} bytes")
    listed = json.loads((image.root / "usr/share/sbom/captiond.cdx.json").read_text())
    names = {component["name"] for component in listed["components"]}
    wanted = {
        "captiond",
        "torch",
        "spacy",
        "starlette",
        "pi-heif",
        "sentencepiece",
        "uvloop",
        "libc6",
        "tini",
    }
    checks.that(wanted <= names, f"the SBOM lists {len(names)} components", wanted - names)
    checks.that(image.user == "10001:10001", "the user of the image is not root", image.user)


def check_service(service: Service, checks: Checks) -> str:
    """Use a service that has just started. Return the id of a task that it has finished."""
    wait_for(service.ready, f"a ready service; see {service.log}")
    health = service.healthy()
    checks.that(health.returncode == 0, "healthy behind a proxy, on another port", health)
    for picture in sorted(PICTURES.glob("*.[jph]*[gc]")):
        answer = service.caption(picture)
        checks.that(answer.is_success, f"{picture.name}: {answer.json().get('caption')}", answer)
    with (PICTURES / "red_circle.png").open("rb") as file:
        sent = service.client.post("/async-batch-caption", files={"images": ("a.png", file)})
    task = str(sent.json()["task_id"])
    wait_for(lambda: status_of(service, task) == "COMPLETED", "the task")
    checks.note("a task is finished")
    return task


def status_of(service: Service, task: str) -> str:
    status: str = service.client.get(f"/async-batch-caption/status/{task}").json()["status"]
    return status


def check_commands(container: Container, checks: Checks) -> None:
    """Run the commands that need no service, and compiled modules that a service does not use."""
    for command in (
        ("captiond", "--version"),
        ("captiond", "check"),
        ("captiond", "tags", "a red car in front of two houses"),
        ("captiond", "bench", "--quick", "--no-service", "--rounds", "1", "--precision", "int8"),
        ("python", "-c", "import blis, numpy, sympy, thinc.api, torch.distributed, transformers"),
    ):
        done = container.run(*command)
        checks.that(done.returncode == 0, " ".join(command[:2]), done)


def check_image(name: str, dockerfile: str, folder: Path, checks: Checks) -> None:
    with unpacked(name) as image:
        check_description(image, checks, dockerfile)
        container, log = container_of(image, folder), folder / "log"
        service = Service(container, log)
        with container.running(log) as process:
            task = check_service(service, checks)
        checks.that(process.returncode == 0, "stops on SIGTERM", process.returncode)
        checks.that(service.healthy().returncode == 1, "not healthy when it has stopped")
        check_commands(container, checks)
        for temporary in (True, False):
            again = Service(container_of(image, folder, read_only=True, temporary=temporary), log)
            with again.container.running(log):
                wait_for(again.ready, f"a service on a read-only root; see {log}")
                checks.that(status_of(again, task) == "COMPLETED", "read-only: keeps its tasks")
                answer = again.caption(PICTURES / "boat_and_sun.png").json()
                checks.that(answer["cached"], "read-only: keeps its captions", answer)
                checks.that(again.healthy().returncode == 0, "read-only: healthy")
        bare = container_of(image, folder, read_only=True, temporary=False)
        for command in (("check",), ("tags", "a red car")):
            done = bare.run("captiond", *command)
            checks.that(done.returncode == 0, f"read-only, without /tmp: {command[0]}", done)
        other = Service(container_of(image, folder, "4711:4711", read_only=True), log)
        with other.container.running(log):
            wait_for(other.ready, f"a service of a user without a name; see {log}")
            answer = other.caption(PICTURES / "boat_and_sun.png").json()
            checks.that("boat" in answer["caption"], "a user without a name and a home", answer)
        checks.that(b"Traceback" not in log.read_bytes(), "no traceback in the log", log)


def check_extension(name: str, folder: Path, checks: Checks) -> None:
    """Build the image of docs/deploying.md on top of an image, and look for its pipeline."""
    extended, made = f"{name}-extended", folder / "extension"
    made.mkdir()
    build_extension(name, extended, made)
    with unpacked(extended) as image:
        checks.that(image.user == "10001:10001", "an image of one's own: not root", image.user)
        shown = container_of(image, folder).run("captiond", "check").stdout
        for language in ("en", "de"):
            part = f"ok    tag pipeline {language}: "
            checks.that(part in shown, f"an image of one's own: tags in {language}", shown)
    buildah("rmi", extended)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dockerfile", nargs="?", default="Dockerfile.cpu")
    parser.add_argument("--built", action="store_true", help="use the image that is there")
    arguments = parser.parse_args()
    enter_namespace()
    name = f"captiond-check-{arguments.dockerfile.rpartition('.')[2]}"
    checks = Checks()
    if not arguments.built:
        build(arguments.dockerfile, name)
        checks.note(f"{arguments.dockerfile} is built")
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        check_image(name, arguments.dockerfile, Path(folder), checks)
        check_extension(name, Path(folder), checks)
    if not arguments.built:
        buildah("rmi", name)
    print(f"{checks.passed} passed, 0 failed")


if __name__ == "__main__":
    main()
