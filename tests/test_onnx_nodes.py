"""The node tests of the ONNX standard, for every operator that the library has a kernel of."""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx_layout_nodes import ADAPTERS as LAYOUT
from onnx_nodes import ADAPTERS as COMPUTE
from onnx_nodes import UnsupportedError

ADAPTERS = {**COMPUTE, **LAYOUT}

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
# Why cases of an operator may be left out; anything else is a failure, so that coverage cannot shrink unseen.
LEFT_OUT = {
    "Add": ("type ",), "Mul": ("type ",), "ReduceMax": ("type bool", "tensor without elements"),
    "ReduceMin": ("type bool", "tensor without elements"), "ReduceSum": ("no axes", "tensor without elements"),
    "Attention": ("masks", "qk_matmul", "type ", "values of another", "softcap", "left_window"),
    "AveragePool": ("ceil_mode", "padding that", "three dim", "more padding"), "ConvTranspose": ("three dim",),
    "MaxPool": ("ceil_mode", "padding that", "three dim", "type uint8", "more padding"), "Gemm": ("alpha and beta",),
    "SoftmaxCrossEntropyLoss": ("class weights",), "Slice": ("negative", "slices that take nothing"),
    "Dropout": ("random bits",),
}  # fmt: skip


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
            if not str(reason).startswith(LEFT_OUT.get(node.op_type, ())):
                raise
            pytest.skip(f"no kernel for {node.op_type} with {reason}")
        wanted = [np.asarray(x) for x in outputs]
        assert found
        for (got, allowed), want in zip(found, wanted, strict=False):
            assert got.shape == want.shape
            error = np.abs(got.astype(np.float64) - want)
            equal = (got == want) | (np.isnan(got) & np.isnan(want))
            assert (equal | (error <= allowed)).all(), f"off by {error.max():.3g}, allowed {np.max(allowed):.3g}"


def test_every_operator_runs_cases() -> None:
    kinds = Counter(case.model.graph.node[0].op_type for case in CASES.values())
    assert set(kinds) == set(ADAPTERS)
    assert sum(kinds.values()) >= 150
