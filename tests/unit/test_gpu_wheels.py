"""The wheels that `tools.gpu` takes to a machine without a network."""

import base64
import hashlib
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

from tools.gpu import wheels

NEEDS = {
    "one": ["two>=1", "torch>=2", "old; python_version < '3.12'", "more; extra == 'full'"],
    "two": ["Three_A[fast]>2"],
    "three-a": ["quick; extra == 'fast'", "one"],
}


def test_all_is_gathered_that_the_machine_needs_and_lacks() -> None:
    assert wheels.missing(["one", "numpy>=2"], NEEDS.get) == ["one", "quick", "three-a", "two"]


def test_what_is_gathered_has_the_versions_of_the_constraints() -> None:
    names = ["one", "three-a", "setuptools"]
    assert wheels.pinned(names, "one==1.5\nThree_A==2.1\n") == [
        "one==1.5",
        "three-a==2.1",
        "setuptools",
    ]


def test_too_many_megabytes_are_a_failure_that_names_the_largest() -> None:
    assert wheels.summary({"a-1.whl": 3_000_000}, 5) == (True, "1 wheels, 3.0 MB of at most 5 MB")
    fits, text = wheels.summary({"a-1.whl": 3_000_000, "b-1.whl": 2_500_000}, 5)
    assert not fits
    assert text.endswith("too large; the largest, in MB: a 3.0, b 2.5")


def test_a_stripped_wheel_is_whole(tmp_path: Path) -> None:
    """One made of an installed package with a compiled module, whose symbols are still there."""
    spec = find_spec("murmurhash")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    (module,) = package.glob("mrmr.*.so")
    wheel = tmp_path / "murmurhash-1-cp311-cp311-linux_x86_64.whl"
    with ZipFile(wheel, "w") as archive:
        archive.write(package / "__init__.py", "murmurhash/__init__.py")
        archive.write(module, f"murmurhash/{module.name}")
        archive.writestr("murmurhash-1.dist-info/RECORD", "")
        before = archive.namelist()
    wheels.strip(wheel)
    with ZipFile(wheel) as archive:
        assert archive.namelist() == before
        assert archive.getinfo(f"murmurhash/{module.name}").file_size < module.stat().st_size
        *lines, own, _ = archive.read("murmurhash-1.dist-info/RECORD").decode().split("\n")
        assert own == "murmurhash-1.dist-info/RECORD,,"
        for name, digest, size in (line.split(",") for line in lines):
            content = archive.read(name)
            expected = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert (digest, int(size)) == (f"sha256={expected.rstrip('=')}", len(content))
