"""The node tests of the ONNX standard, for every operator that the library has a kernel of."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx_nodes import ADAPTERS, UnsupportedError

onnx = pytest.importorskip("onnx", reason="the node tests come with the onnx package")


def collected() -> dict[str, Any]:
    """Return the cases of one node whose operator has an adapter, by name."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, where the cases compute their own infinities
        cases = collect_testcases(None)
    single = [case for case in cases if case.model is not None and len(case.model.graph.node) == 1]
    return {case.name: case for case in single if case.model.graph.node[0].op_type in ADAPTERS}


CASES = collected()
SKIPPED: Counter[str] = Counter()
RAN: Counter[str] = Counter()


@pytest.mark.parametrize("name", sorted(CASES))
def test_node(name: str) -> None:
    case = CASES[name]
    node = case.model.graph.node[0]
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    for inputs, outputs in case.data_sets:
        given = iter(inputs)
        tensors = [next(given) if name else None for name in node.input]
        try:
            found = ADAPTERS[node.op_type](attributes, *tensors)
        except UnsupportedError as reason:
            SKIPPED[node.op_type] += 1
            pytest.skip(f"no kernel for {node.op_type} with {reason}")
        wanted = [np.asarray(x) for x in outputs]
        assert found
        for (got, allowed), want in zip(found, wanted, strict=False):
            assert got.shape == want.shape
            error = np.abs(got.astype(np.float64) - want)
            equal = (got == want) | (np.isnan(got) & np.isnan(want))
            assert (equal | (error <= allowed)).all(), f"off by {error.max():.3g}, allowed {np.max(allowed):.3g}"
    RAN[node.op_type] += 1


def test_every_operator_runs_cases() -> None:
    kinds = Counter(case.model.graph.node[0].op_type for case in CASES.values())
    assert set(kinds) == set(ADAPTERS)
    assert sum(kinds.values()) >= 150
