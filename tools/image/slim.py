"""Remove what nothing uses from an environment: python tools/image/slim.py FOLDER

An image for a CPU becomes a third smaller by it. What is removed serves only those who compile
against a library (headers, archives, sources) or debug it (tests, symbols of functions that are not
exported). `make image-check` uses what is left: it captions, tags, measures, and reads each type of
image. It needs strip(1), of the package binutils.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

# Below site-packages. A name with a slash at its end is a folder.
UNUSED = (
    "torch/include/",
    "torch/share/",
    "torch/test/",
    "torch/bin/protoc*",
    "torch/bin/*Test",
    "torch/bin/test_*",
    "torch/lib/lib*_test.so",
    "torch/lib/*.a",
    "spacy/tests/",
    "thinc/tests/",
    "numpy/**/tests/",
    "sympy/**/tests/",
    "networkx/**/tests/",
    "mpmath/tests/",
    "srsly/tests/",
    "blis/tests/",
    "preshed/tests/",
    "cymem/tests/",
    "murmurhash/tests/",
    "nvidia/**/*.a",
    # Sources of compiled modules, which only a compiler reads. Triton compiles with its headers.
    *(
        f"{package}/**/*.{suffix}"
        for package in ("spacy", "thinc", "blis", "preshed", "cymem", "murmurhash", "srsly")
        for suffix in ("pyx", "pxd", "cpp", "c", "h", "hh")
    ),
)


def unused(packages: Path) -> Iterator[Path]:
    """Yield the files and folders below site-packages that nothing uses while captiond runs."""
    for pattern in UNUSED:
        wants_folder = pattern.endswith("/")
        for path in sorted(packages.glob(pattern.rstrip("/"))):
            if path.is_dir() == wants_folder:
                yield path


def size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def strip_symbols(packages: Path) -> None:
    """Remove the symbols that no other file needs from all compiled modules and libraries.

    Libraries in folders such as `numpy.libs` are left alone: a program has moved their parts when
    they were put into the package, and strip(1) damages some of these files.
    """
    libraries = [
        path
        for path in packages.rglob("*.so*")
        if path.is_file() and not path.is_symlink() and ".libs" not in path.parent.suffix
    ]
    subprocess.run(["strip", "--strip-unneeded", *libraries], check=True)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    (environment,) = map(Path, sys.argv[1:])
    (packages,) = environment.glob("lib/python3*/site-packages")
    before = size(packages)
    for path in list(unused(packages)):
        if path.exists():
            remove(path)
    strip_symbols(packages)
    print(f"{packages}: {before / 1e6:.0f} MB, then {size(packages) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
