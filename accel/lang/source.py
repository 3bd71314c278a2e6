"""Where the author's code stands: the nearest frame outside the language, as an index into the source map."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from types import CodeType, FrameType, TracebackType

from accel.errors import Location

__all__ = ["Lines", "author_of"]

LANG = f"{Path(__file__).absolute().parent}{os.sep}"
PACKAGE = f"{Path(LANG).parent}{os.sep}"
PARENT = f"{Path(PACKAGE).parent}{os.sep}"
BELOW = tuple(f"{PACKAGE}{name}{os.sep}" for name in ("lang", "isa", "hardware", "numerics"))
LIBRARIES = tuple({p + os.sep for p in map(sysconfig.get_path, ("stdlib", "purelib", "platlib")) if p})


def _shown(file: str) -> str:
    """Shorten a file name: package files count from the package, files below the working folder from there."""
    if file.startswith(PACKAGE):
        return file[len(PARENT) :].replace(os.sep, "/")
    try:
        here = f"{Path.cwd()}{os.sep}"
    except OSError:
        return file
    return file.removeprefix(here)


class Lines:
    """The source map of a program: (code object, line) to index, kept fast by identity of the code object."""

    __slots__ = ("_alive", "_by_location", "_files", "ids", "items")

    def __init__(self) -> None:
        self.ids: dict[tuple[int, int], int] = {}
        self.items: list[Location] = []
        self._by_location: dict[Location, int] = {}
        self._alive: list[CodeType] = []  # keeps ids of code objects from being given out twice
        self._files: dict[str, str] = {}

    def find(self, frame: FrameType) -> int:
        """Return the line index of the nearest frame outside the language; remembers it when `frame` is that frame."""
        outer: FrameType = frame
        while outer.f_code.co_filename.startswith(LANG) and outer.f_back is not None:
            outer = outer.f_back
        code, number = outer.f_code, outer.f_lineno
        file = self._files.get(code.co_filename)
        if file is None:
            file = self._files[code.co_filename] = _shown(code.co_filename)
        at = Location(file, number)
        index = self._by_location.get(at)
        if index is None:
            index = self._by_location[at] = len(self.items)
            self.items.append(at)
        if outer is frame:
            self._alive.append(code)
            self.ids[id(code), number] = index
        return index

    def location(self, frame: FrameType) -> Location:
        """Return the author's location for a frame."""
        return self.items[self.find(frame)]


def author_of(traceback: TracebackType | None) -> Location | None:
    """Return the innermost line of a traceback that is neither the language's nor an installed library's."""
    best: Location | None = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        foreign = file.startswith(LIBRARIES) and not file.startswith(PACKAGE)
        if not foreign and not file.startswith(BELOW) and not file.startswith("<frozen"):
            best = Location(_shown(file), traceback.tb_lineno)
        traceback = traceback.tb_next
    return best
