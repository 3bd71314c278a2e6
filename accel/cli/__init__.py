"""The command line `accel`: each verb parses, calls the library and prints; nothing is computed here."""

from accel.cli.app import main

__all__ = ["main"]
