"""Tools beside the library for those who test kernels and engines: an independent slow model, strategies, mutants."""
