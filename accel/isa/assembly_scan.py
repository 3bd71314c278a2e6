"""Reading one line of assembly: what stands at a column, and errors that point at it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

from accel.errors import AssemblyError, Location, nearest

__all__ = ["NAME", "WORD_LIMIT", "Line"]

NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
FORMAT = re.compile(r"[a-z][a-z0-9]*(?:-\d+)?", re.ASCII)
MNEMONIC = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*", re.ASCII)
NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|\d+", re.ASCII)
STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
PATH = re.compile(r"[^\s;|\"]+(?=:\d)")  # greedy: the last colon before digits parts file and line
SPACE = re.compile(r"[ \t\r]*")
WORD_LIMIT = 1 << 63  # a table holds signed 64-bit words


class Line:
    """One line of text and a place in it; every `take_` moves on, or raises AssemblyError at the place."""

    __slots__ = ("number", "place", "source", "text")

    def __init__(self, text: str, number: int, source: str) -> None:
        self.text, self.number, self.source = text, number, source
        self.place = 0

    @property
    def location(self) -> Location:
        """Return file and line, for errors and for the source map of hand-written text."""
        return Location(self.source, self.number)

    def error(self, message: str, place: int | None = None) -> AssemblyError:
        """Return the error to raise, pointing at `place` (default: here)."""
        column = (self.place if place is None else place) + 1
        return AssemblyError(message, at=self.location, column=column, text=self.text)

    def skip(self) -> int:
        """Skip blanks; return the place where the next thing starts."""
        place: int = SPACE.match(self.text, self.place).end()  # type: ignore[union-attr]
        self.place = place
        return place

    def ended(self) -> bool:
        """Return whether nothing but a comment is left."""
        place = self.skip()
        return place >= len(self.text) or self.text[place] == ";"

    def here(self, mark: str) -> bool:
        """Return whether `mark` comes next, without moving on."""
        return self.text.startswith(mark, self.skip())

    def accept(self, mark: str) -> bool:
        """Move past `mark` if it comes next; return whether it did."""
        if self.text.startswith(mark, self.skip()):
            self.place += len(mark)
            return True
        return False

    def expect(self, mark: str, why: str) -> None:
        """Move past `mark`; AssemblyError where something else stands, saying `why` it belongs there."""
        if not self.accept(mark):
            raise self.error(f"Cannot read {self.found()} because {why}; write {mark!r} here")

    def found(self) -> str:
        """Return a short text of what stands here, for messages."""
        if self.ended():
            return "the end of the line"
        match = re.compile(r'"[^"]*"?|[\w.]+|.').match(self.text, self.place)
        return repr(match.group()[:40] if match else "")

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Move past what the pattern matches here and return it; None where it does not match."""
        found = pattern.match(self.text, self.skip())
        if found is None:
            return None
        self.place = found.end()
        return found.group()

    def take_word(self, pattern: re.Pattern[str], what: str, example: str) -> str:
        """Return the word here."""
        word = self.match(pattern)
        if word is None:
            raise self.error(f"Cannot read {self.found()} as {what}; write for example {example}")
        return word

    def take_name(self, what: str) -> str:
        """Return a name: a plain word, or any text in double quotes."""
        if self.here('"'):
            return self.take_string(what)
        return self.take_word(NAME, what, 'A, or "any text"')

    def take_string(self, what: str) -> str:
        """Return a text in double quotes, with JSON's escapes."""
        begin = self.skip()
        quoted = self.match(STRING)
        if quoted is None:
            raise self.error(f"Cannot read {self.found()} as {what}; write it in double quotes")
        try:
            text = json.loads(quoted, strict=False)
        except ValueError:
            raise self.error(
                f"Cannot read {what} because of an escape JSON does not have; double the backslash", begin
            ) from None
        assert isinstance(text, str)
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise self.error(
                f"Cannot read {what} because half a surrogate pair is no text; leave it out", begin
            ) from None
        return text

    def number_here(self) -> int | None:
        """Return an unsigned number if one comes next."""
        begin = self.skip()
        digits = self.match(NUMBER)
        if digits is None:
            return None
        value = -1 if len(digits) > 20 else int(digits, 0) if digits[:2] in ("0x", "0X") else int(digits)
        if not 0 <= value < WORD_LIMIT:
            raise self.error("Cannot use this number because a word has 64 bits with sign; use a smaller one", begin)
        return value

    def take_number(self, what: str, low: int = -WORD_LIMIT, high: int = WORD_LIMIT - 1) -> int:
        """Return a whole number from `low` to `high`, decimal or 0x."""
        begin = self.skip()
        sign = -1 if self.accept("-") else 1
        value = self.number_here()
        if value is None:
            raise self.error(f"Cannot read {self.found()} as {what}; write a whole number", begin)
        if not low <= sign * value <= high:
            raise self.error(f"Cannot use {sign * value} as {what} because it runs from {low} to {high}", begin)
        return sign * value

    def take_known(self, known: Iterable[str], what: str, pattern: re.Pattern[str] = NAME) -> str:
        """Return the word here, which must be one of `known`; the error names the nearest."""
        begin = self.skip()
        names = list(known)
        word = self.take_word(pattern, what, names[0] if names else "a name")
        if word not in names:
            hint = nearest(word, names) or (f"; use {', '.join(names[:12])}" if names else "; there is none")
            raise self.error(f"Cannot use {word!r} because it is no {what}{hint}", begin)
        return word

    def take_list(self, what: str, close: str) -> list[int]:
        """Return numbers with commas between them, up to but not including one of the marks in `close`."""
        values: list[int] = []
        while not any(self.here(mark) for mark in close):
            if values:
                self.expect(",", f"{what} have commas between them")
            values.append(self.take_number(f"one of {what}"))
        return values

    def take_location(self) -> Location:
        """Return `file:line`; a file name with blanks, quotes, `;` or `|` stands in double quotes."""
        begin = self.skip()
        file = self.take_string("a file name") if self.here('"') else self.match(PATH)
        if file is None or not self.accept(":"):
            raise self.error("Cannot read this as a source line; write file:line", begin)
        return Location(file, self.take_number("a line", 0))

    def finish(self) -> None:
        """Raise AssemblyError unless nothing but a comment is left."""
        if not self.ended():
            raise self.error(f"Cannot read {self.found()} because the statement is complete; remove it")
