"""What a kept figure came from: a digest over the sources that can change it."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["source_digest"]

# How results are asked for, drawn and tested; nothing in them changes a figure.
_BESIDE_THE_FIGURES = frozenset({"cli", "report", "testing"})


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root, followlinks=True):
        top = Path(folder) == root
        names[:] = sorted(name for name in names if name != "__pycache__" and not (top and name in _BESIDE_THE_FIGURES))
        yield from (Path(folder) / name for name in sorted(files) if name.endswith((".py", ".toml")))


@functools.cache
def source_digest() -> str:
    """Return 64 hex digits over the package's sources: a kernel or a rule of the cycle model that changes changes it.

    Every Python and TOML file of the package counts but those of the command line, the reports and the battery.
    """
    root, digest = Path(__file__).parent, hashlib.sha256()
    for path in _files(root):
        text = path.read_bytes()
        digest.update(f"\0{path.relative_to(root).as_posix()}\0{len(text)}\0".encode())
        digest.update(text)
    return digest.hexdigest()
