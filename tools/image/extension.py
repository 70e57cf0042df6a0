"""The image of one's own in docs/deploying.md, which adds a spaCy pipeline to captiond's image.

The Dockerfile is that of the page, word for word, apart from the name of the image. The wheel
has the name of the real pipeline of German, but is made here: it can split a text into words, which
is enough to be loaded.
"""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import spacy

PAGE = Path(__file__).parents[2] / "docs" / "deploying.md"
EXAMPLE = re.compile(r"```dockerfile\n(FROM captiond\n.*?)```", re.DOTALL)
WHEEL = re.compile(r"COPY ((\w+)-([\d.]+)-py3-none-any\.whl) ")
PACKAGE = """
from pathlib import Path
from spacy.util import get_model_meta, load_model_from_init_py

def load(**overrides):
    return load_model_from_init_py(__file__, **overrides)

__version__ = get_model_meta(Path(__file__).parent)["version"]
"""
METADATA = "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
TAGS = "Wheel-Version: 1.0\nGenerator: captiond\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def build_extension(image: str, name: str, folder: Path) -> None:
    """Build the image of the page on top of captiond's image."""
    found = EXAMPLE.search(PAGE.read_text("utf-8"))
    assert found is not None, f"{PAGE} has no Dockerfile"
    text = found[1]
    (folder / "Dockerfile").write_text(text.replace("FROM captiond\n", f"FROM {image}\n"))
    wheel = WHEEL.search(text)
    assert wheel is not None, f"the Dockerfile in {PAGE} installs no wheel"
    make_wheel(folder / wheel[1], wheel[2], wheel[3])
    command = ["buildah", "bud", "--isolation=chroot", "--pull-never", "--format=docker"]
    subprocess.run([*command, f"--tag={name}", "."], cwd=folder, check=True, stdout=sys.stderr)


def make_wheel(path: Path, name: str, version: str) -> None:
    """Write a package that spaCy takes for a pipeline: it has a language, but no components."""
    language, _, own_name = name.partition("_")
    pipeline = spacy.blank(language)
    pipeline.meta.update(name=own_name, version=version)
    data = path.parent / f"{name}-{version}"
    pipeline.to_disk(data)
    information = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}/__init__.py", PACKAGE)
        wheel.write(data / "meta.json", f"{name}/meta.json")
        for file in filter(Path.is_file, data.rglob("*")):
            wheel.write(file, f"{name}/{data.name}/{file.relative_to(data)}")
        wheel.writestr(f"{information}/METADATA", METADATA.format(name=name, version=version))
        wheel.writestr(f"{information}/WHEEL", TAGS)
        wheel.writestr(f"{information}/RECORD", "")
