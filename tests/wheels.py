"""Wheels made of what is installed here, so that a test installs a project without a network."""

import base64
import hashlib
import struct
import zipfile
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def make_wheels(folder: Path, *wanted: str) -> None:
    """Make a wheel of each distribution that these requirements need, and all that those need.

    What is needed on another platform only, and so is not installed, is an empty wheel: a lock that
    holds for every platform asks for its name.
    """
    folder.mkdir()
    for name, requirement in _closure(wanted).items():
        if found := _installed(name):
            _write(folder, name, found.version, _tag(found), _files(found))
        else:
            _write(folder, name, _version_for(requirement), "py3-none-any", ())


def _closure(wanted: Iterable[str]) -> dict[str, Requirement]:
    """Return every distribution that is needed, by name, with one requirement that asks for it."""
    found: dict[str, Requirement] = {}
    extras: dict[str, set[str]] = {}
    left = [Requirement(each) for each in wanted]
    while left:
        asked = left.pop()
        name = canonicalize_name(asked.name)
        known = extras.setdefault(name, set())
        if name in found and asked.extras <= known:
            continue
        found.setdefault(name, asked)
        known |= asked.extras
        installed = _installed(name)
        left += _needs(installed, known) if installed else []
    return found


def _needs(installed: Distribution, extras: set[str]) -> Iterator[Requirement]:
    """Yield what a distribution needs on any platform, with the extras asked of it."""
    for line in installed.requires or ():
        needed = Requirement(line)
        marker = str(needed.marker or "")
        if "extra" not in marker or any(f'"{extra}"' in marker for extra in extras):
            yield needed


@cache
def _installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _version_for(asked: Requirement) -> str:
    """Return a version that the requirement allows."""
    named = [each.version.removesuffix(".*") for each in asked.specifier]
    return next(each for each in ("9999", *named) if asked.specifier.contains(each))


def _tag(found: Distribution) -> str:
    """Return the wheel's tags, all of them in one."""
    lines = (found.read_text("WHEEL") or "").splitlines()
    tags = [line.split()[1].split("-") for line in lines if line.startswith("Tag:")]
    return "-".join(".".join(sorted(set(each))) for each in zip(*tags, strict=True))


def _files(found: Distribution) -> Iterator[tuple[str, bytes]]:
    """Yield the files that the distribution's wheel had: none outside, none made since."""
    kept_out = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
    for file in found.files or ():
        inside = not file.is_absolute() and ".." not in file.parts
        made_since = "__pycache__" in file.parts or file.name in kept_out
        if inside and not made_since and file.locate().is_file():
            path = Path(str(file.locate()))
            content = path.read_bytes()
            yield file.as_posix(), content
            if path.suffix == ".py" and (compiled := _compiled(path, content)):
                yield f"{file.parent.as_posix()}/__pycache__/{_cached_name(path)}", compiled
    for file in found.files or ():  # its commands, which an installer makes of these lines again
        if file.parent.name == "bin" and file.parts[0] == "..":
            path = Path(str(file.locate()))
            if path.is_file() and not path.read_bytes().startswith(b"#!"):
                name = f"{_stem(found)}.data/scripts/{file.name}"
                yield name, path.read_bytes()


def _cached_name(path: Path) -> str:
    """Return what the file is called that holds a compiled one."""
    return Path(cache_from_source(str(path))).name


def _compiled(path: Path, content: bytes) -> bytes | None:
    """Return what this Python has compiled of a file, as one that holds whatever the file's time.

    So the Pythons of all that is installed from here need not compile it again, each for itself.
    """
    try:
        compiled = Path(cache_from_source(str(path))).read_bytes()
    except FileNotFoundError:
        return None
    if compiled[:4] != MAGIC_NUMBER or compiled[4:8] != bytes(4):  # by the time of its file
        return None
    made_of = struct.pack("<II", int(path.stat().st_mtime) & 0xFFFF_FFFF, len(content))
    if compiled[8:16] != made_of:
        return None
    return MAGIC_NUMBER + struct.pack("<I", 1) + source_hash(content) + compiled[16:]


def _stem(found: Distribution) -> str:
    return f"{canonicalize_name(found.name).replace('-', '_')}-{found.version}"


def _write(
    folder: Path, name: str, version: str, tag: str, files: Iterable[tuple[str, bytes]]
) -> None:
    stem = f"{name.replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    given = dict(files)
    theirs = next((each.split("/")[0] for each in given if ".dist-info/" in each), info)
    if not given:
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        wheel = f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n"
        given = {f"{info}/METADATA": metadata.encode(), f"{info}/WHEEL": wheel.encode()}
    record = []
    with zipfile.ZipFile(folder / f"{stem}-{tag}.whl", "w") as archive:
        for path, content in given.items():
            entry = zipfile.ZipInfo(path)  # of 1980, so that the same wheel has the same hash
            entry.external_attr = (0o755 if ".data/scripts/" in path else 0o644) << 16
            archive.writestr(entry, content)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=")
            record.append(f"{path},sha256={digest.decode()},{len(content)}")
        record.append(f"{theirs}/RECORD,,")
        archive.writestr(zipfile.ZipInfo(f"{theirs}/RECORD"), "\n".join(record) + "\n")
