"""Sphinx configuration: Markdown pages (MyST) in the Furo theme."""

from importlib.metadata import version as _installed

project = "accel"
author = "The accel authors"
copyright = "2026, The accel authors"
release = version = _installed("accel-codesign")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"accel {release}"
