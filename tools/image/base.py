"""Make an image that stands in for python:3.11-slim-bookworm, from Debian's packages.

A machine without a registry can then build the Dockerfiles as they are. The settings of pip and apt
on this machine go into the image, so that the build uses the same package indexes.
"""

import configparser
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.image.container import buildah

NAME = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates"
PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
SHORT = 3  # parts of a path such as /opt/wheels
LOCAL_PATH = re.compile(r"(?:file://)?(/[^\s]+)")


def make_base() -> None:
    """Make the image unless it is there."""
    command = ["buildah", "inspect", "--type", "image", NAME]
    found = subprocess.run(command, capture_output=True, check=False)
    if found.returncode == 0:
        return
    with TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        command = [
            "unshare",
            "--mount",
            "debootstrap",
            "--variant=minbase",
            f"--include={PACKAGES}",
            "bookworm",
        ]
        subprocess.run([*command, str(root)], check=True, stdout=subprocess.DEVNULL)
        for name in ("python", "pip"):
            (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{name}3")
        add_settings(root)
        for cache in ("var/cache/apt/archives", "var/lib/apt/lists"):
            shutil.rmtree(root / cache)
            (root / cache).mkdir()
        container = buildah("from", "scratch")
        buildah("copy", "--quiet", container, str(root), "/")
        buildah("config", "--env", f"PATH={PATH}", container)
        buildah("commit", "--quiet", "--rm", "--format", "docker", container, NAME)


def add_settings(root: Path) -> None:
    """Copy what this machine's pip and apt need to reach their package indexes."""
    shutil.copyfile(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    for file in Path("/etc/apt/apt.conf.d").iterdir():
        if re.search(r"Acquire", file.read_text("utf-8", "replace")):
            shutil.copyfile(file, root / "etc/apt/apt.conf.d" / file.name)
    settings = configparser.ConfigParser(interpolation=None)
    settings["global"] = pip_settings()
    with (root / "etc/pip.conf").open("w") as written:
        settings.write(written)


def pip_settings() -> dict[str, str]:
    """Return the settings of this machine's pip that every command has."""
    listed = subprocess.run(
        ["python3", "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    )
    pairs = (line.partition("=") for line in listed.stdout.splitlines())
    named = {name: value.strip().strip("'") for name, _, value in pairs}
    kept = ("index-url", "extra-index-url", "find-links", "cert", "timeout", "default-timeout")
    return {
        key: value.replace("\\n", "\n")
        for name, value in named.items()
        for section, _, key in [name.rpartition(".")]
        if section in {"global", ":env:"} and key in kept
    }


def local_folders() -> list[Path]:
    """Return the folders of this machine that pip reads packages from.

    The pages of an index in a folder name files beside that folder, so the folder above it counts.
    """
    text = " ".join(value for key, value in pip_settings().items() if key != "cert")
    found = [Path(path) for path in LOCAL_PATH.findall(text) if Path(path).is_dir()]
    return [path.parent if len(path.parts) > SHORT else path for path in found]
