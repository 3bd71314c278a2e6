"""Number formats, conversion to and from their codes, and error bounds."""

from accel.numerics.formats import FORMATS, Format, available_formats, by_code, fmt, require

__all__ = ["FORMATS", "Format", "available_formats", "by_code", "fmt", "require"]
