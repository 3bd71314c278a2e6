"""Sphinx configuration: Markdown pages (MyST) in the Furo theme, and a reference made from docstrings (autodoc)."""

import re
from importlib.metadata import version as _installed
from typing import Any

project = "accel"
author = "The accel authors"
copyright = "2026, The accel authors"
release = version = _installed("accel-codesign")

extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
add_module_names = False
suppress_warnings = ["ref.python"]  # two classes have a field called bytes, and the type of that name is neither
maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"accel {release}"

# Docstrings are prose with code between single backticks, as the rest of the documentation is.
CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"([\\*|_])")


# What a signature says of a type, and what a reader needs of it.
SHORTER = (
    (re.compile(r"~?\b(?:[a-z_]+\.)+(?=[A-Za-z_])"), ""),
    (re.compile(r"(?:NDArray|ndarray)\[(?:[^\[\]]|\[[^\[\]]*\])*\]"), "ndarray"),
    (re.compile(r"_Buffer \| _SupportsArray.*?_NestedSequence\[complex \| bytes \| str\]"), "ArrayLike"),
    (re.compile(r"Annotated\[(\w+), Meta\([^()]*\)\]"), r"\1"),
    (re.compile(r"<factory>"), "..."),
)


def as_prose(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn the Markdown of a docstring into reStructuredText: code stays code, and nothing else is markup."""
    for index, line in enumerate(lines):
        parts = CODE.split(line)
        lines[index] = "".join(f"`{p}`" if p.startswith("`") else MARKUP.sub(r"\\\1", p) for p in parts)


def short_signature(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Say types by their last name, arrays without their type parameters and whole numbers without their range."""
    for pattern, shorter in SHORTER:
        signature = pattern.sub(shorter, signature) if signature else signature
        returns = pattern.sub(shorter, returns) if returns else returns
    return signature, returns


def setup(app: Any) -> None:
    """Connect what Sphinx calls for each docstring and signature."""
    app.connect("autodoc-process-docstring", as_prose)
    app.connect("autodoc-process-signature", short_signature)
