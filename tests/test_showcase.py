"""The demonstration, on a chip and layers small enough to be whole."""

from __future__ import annotations

import numpy as np
import pytest

import accel
from accel.networks import LAYERS, Product
from accel.problem import Matmul
from accel.report import showcase


@pytest.fixture(scope="module")
def shown() -> list[showcase.Shown]:
    small = (
        Product("net<1>", "a & b", Matmul(40, 24, 16), 'source "one"'),
        Product("net<1>", "ragged", Matmul(33, 17, 29), "source two"),
    )
    return list(showcase.show(accel.chip("mini"), small))


def test_every_layer_is_verified_and_set_next_to_gpus(shown: list[showcase.Shown]) -> None:
    assert [s.hazards for s in shown] == [0, 0]
    assert [s.verified for s in shown] == [(40 * 24, 40 * 24, 0), (33 * 17, 33 * 17, 0)]
    for s in shown:
        assert {row.name for row in s.comparison.baselines} == set(showcase.GPUS)
        assert s.comparison.timing.cycles == s.comparison.program.time().cycles


def test_the_small_proof_holds() -> None:
    proof = showcase.prove_small()
    assert proof.verified.checked == proof.verified.total == 61 * 47
    assert proof.verified.wrong == 0
    assert "bit-equal" in str(proof)


def test_hard_values_have_both_signs_and_many_sizes() -> None:
    values = showcase.hard_values((200, 100), 1).astype(np.float32)
    assert np.isfinite(values).all()
    assert 0.4 < (values < 0).mean() < 0.6
    assert len(np.unique(np.frexp(values)[1])) == 16
    assert (showcase.hard_values((200, 100), 1) == showcase.hard_values((200, 100), 1)).all()
    assert (showcase.hard_values((200, 100), 2) != showcase.hard_values((200, 100), 1)).any()


def test_layers_have_the_shapes_of_their_sources() -> None:
    shapes = {(x.network, x.name): (x.problem.m, x.problem.n, x.problem.k) for x in LAYERS}
    assert shapes["resnet50", "conv4 3x3 256-256"] == (256 * 14 * 14, 256, 3 * 3 * 256)
    assert shapes["resnet50", "conv2 1x1 64-256"] == (256 * 56 * 56, 256, 64)
    assert shapes["resnet50", "conv5 1x1 512-2048"] == (256 * 7 * 7, 2048, 512)
    assert shapes["gpt3-175b", "feed-forward up"] == (2048, 4 * 12288, 12288)
    assert shapes["cameras", "8 x 1280x960 stem 3x3/2"] == (8 * (1280 // 2) * (960 // 2), 32, 3 * 3 * 3)
    kinds = {(x.problem.kind, x.problem.to_dict().get("direction")) for x in showcase.DEMO}
    assert kinds >= {("conv2d", d) for d in ("fwd", "dgrad", "wgrad")} | {("matmul", None), ("attention", "fwd")}
