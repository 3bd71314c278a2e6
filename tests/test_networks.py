"""Networks: multiply-adds and parameters that others published, gradients of every layer, timing, store and table."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from accel.cli import main
from accel.comparison import build
from accel.errors import InputError
from accel.networks import Layer, catalog, names, network, parameters, weights
from accel.networks import timing as timing_module
from accel.networks.expansion import size
from accel.networks.results import Results
from accel.networks.timing import time_layers
from accel.problem import Conv2d, Conv3d, Elementwise, Matmul, Softmax, StreamingConv, from_dict
from accel.report.networks import network_tables


def _macs(layers: tuple[Layer, ...]) -> int:
    return sum(layer.count * layer.problem.macs for layer in layers)


# Of one image or clip. torchvision's documentation of its weights lists parameters, and GFLOPS that are multiply-adds;
# its inception_v3 has an auxiliary head of 3,326,696 parameters, which is no layer here. PySlowFast's model zoo lists
# 36.1 for 256 x 256. GPT-3: 24 d^2 per token in matrices and 4 d for each of the tokens seen, halved by the mask.
PUBLISHED = [
    ("resnet50", 4.09e9, 25_557_032, 0.002),
    ("inception-v3", 5.71e9, 27_161_264 - 3_326_696, 0.002),
    ("r2plus1d-18", 40.52e9, 31_505_325, 0.001),
    ("slowfast", 36.1e9 * (224 / 256) ** 2, None, 0.005),
    ("gpt3-175b", 2048 * 12 * 12288**2 + 2 * 96 * 128 * (2048 * 2049 // 2), 12 * 12288**2 + 13 * 12288, 1e-12),
    ("bert-large", None, 24 * (12 * 1024**2 + 13 * 1024) + 30522 * 1025 + 1024**2 + 5 * 1024, 0),
]


@pytest.mark.parametrize(("name", "macs", "parameter_count", "tolerance"), PUBLISHED, ids=[row[0] for row in PUBLISHED])
def test_sizes_are_those_that_others_published(
    name: str, macs: float | None, parameter_count: int | None, tolerance: float
) -> None:
    layers = network(name, batch=1)
    if macs is not None:
        assert _macs(layers) == pytest.approx(macs, rel=tolerance)
    if parameter_count is not None:
        assert weights(name) == parameter_count


def test_regnet_is_the_one_of_its_paper() -> None:
    """RegNetX-1.6GF: 1.6e9 multiply-adds at 224 x 224 (Radosavovic et al., CVPR 2020, table 2)."""
    layers = network("regnet-bifpn", cameras=1, batch=1, height=224, width=224)
    body = tuple(layer for layer in layers if layer.name.startswith("stem") or layer.name.startswith("stage"))
    assert _macs(body) == pytest.approx(1.6e9, rel=0.02)


@pytest.mark.parametrize("name", names())
def test_training_has_both_gradients_of_every_product_but_the_first(name: str) -> None:
    forward, step = network(name), network(name, training=True)
    assert {layer.phase for layer in forward} == {"forward"}
    assert [layer.phase for layer in step] == sorted(
        (layer.phase for layer in step), key=["forward", "backward", "optimizer"].index
    )
    products = [layer for layer in forward if isinstance(layer.problem, Conv2d | Conv3d | Matmul)]
    backward = {layer.name: layer for layer in step if layer.phase == "backward"}
    for layer in products:
        gradient = backward[f"{layer.name} weight gradient"]
        assert (gradient.count, gradient.problem.macs) == (layer.count, layer.problem.macs)
        if isinstance(layer.problem, Conv2d | Conv3d):
            x = "gy" if layer.problem.direction == "dgrad" else "x"  # a transposed convolution reads its x as a gy
            assert layer.problem.operands[x].shape == gradient.problem.operands[x].shape
    missing = [layer.name for layer in products if f"{layer.name} data gradient" not in backward]
    image_channels = {"unet3d": 1}.get(name, 3)
    assert all(dict(from_dict_of(layer))["c"] == image_channels for layer in products if layer.name in missing)
    assert len(missing) == {"slowfast": 2, "bert-large": 0, "gpt3-175b": 0}.get(name, 1)
    assert step[-1].phase == "optimizer"
    assert all(layer.source for layer in step)


def from_dict_of(layer: Layer) -> dict[str, Any]:
    return layer.problem.to_dict()


@pytest.mark.parametrize("name", names())
def test_every_layer_is_a_problem_of_the_batch(name: str) -> None:
    small, large = (network(name, training=True, batch=batch) for batch in (1, 3))
    assert [layer.name for layer in small] == [layer.name for layer in large]
    for one, three in zip(small, large, strict=True):
        assert from_dict(one.problem.to_dict()) == one.problem
        assert three.problem.macs == 3 * one.problem.macs


def test_sizes_are_products_and_exact_quotients() -> None:
    assert size("batch*width/16", {"batch": 3, "width": 64}) == 12
    assert size(7, {}) == 7
    with pytest.raises(InputError, match="is no whole number; use sizes that divide"):
        network("regnet-bifpn", height=100)
    with pytest.raises(InputError, match="network resnet50 has no bach; did you mean 'batch'"):
        network("resnet50", bach=3)
    with pytest.raises(InputError, match="batch=0 is outside"):
        network("resnet50", batch=0)
    with pytest.raises(InputError, match="unknown network 'resnet5'; did you mean 'resnet50'"):
        network("resnet5")
    assert parameters("slowfast") == {"batch": 16, "slow_frames": 4, "fast_frames": 32}


LAYERS = (
    Layer("a", Matmul(32, 24, 16), 2, "here", "forward"),
    Layer("a relu", Elementwise(640), 1, "here", "forward"),
    Layer("softmax", Softmax(64, 16), 3, "here", "forward"),
    Layer("again", Matmul(32, 24, 16), 1, "here", "backward"),
    Layer("fp32", StreamingConv(2, 4, 4, 2, 2, 1, 1, 1, dtype="fp32", out_dtype="fp32"), 1, "here", "backward"),
)


def test_layers_are_timed_once_kept_and_never_left_out_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = {name: entry for name, entry in timing_module.CATALOG.items() if entry.kind != "softmax"}
    monkeypatch.setattr(timing_module, "CATALOG", without)
    told: list[str] = []
    store = tmp_path / "layers.sqlite"

    def watch(label: str, _done: int, total: int) -> None:
        assert total == 4
        told.append(label)

    timing = time_layers(LAYERS, "mini", vs=["h100-sxm"], workers=2, store=store, watch=watch)
    assert len(told) == 3  # the two equal products are one, and what has no kernel is not begun
    matmul, relu = (build(layer.problem, "mini").time() for layer in LAYERS[:2])
    assert [row.figure.cycles for row in timing.rows] == [matmul.cycles, relu.cycles, None, matmul.cycles, None]
    assert timing.seconds == pytest.approx(3 * matmul.seconds + relu.seconds)
    assert timing.phases() == pytest.approx({"forward": 2 * matmul.seconds + relu.seconds, "backward": matmul.seconds})
    assert [row.layer.name for row in timing.missing] == ["softmax", "fp32"]
    assert [row.figure.status for row in timing.missing] == ["no kernel", "refused"]
    assert "no kernel for softmax" in timing.missing[0].figure.reason
    assert "fp32" in timing.missing[1].figure.reason
    assert timing.flops == 3 * LAYERS[0].problem.flops
    assert set(timing.speedup()) == {"h100-sxm"}
    assert json.loads(json.dumps(timing.to_dict()))["sum"]["missing"] == ["softmax", "fp32"]

    told.clear()
    assert time_layers(LAYERS, "mini", vs=["h100-sxm"], store=store, watch=watch) == timing
    assert told == []
    with sqlite3.connect(store) as connection:  # what an interrupted run leaves: some rows
        connection.execute(
            "DELETE FROM layers WHERE key = ?", (Results(store).key(LAYERS[1].problem, _mini(), "packet"),)
        )
    assert time_layers(LAYERS, "mini", vs=["h100-sxm"], store=store, watch=watch) == timing
    assert told == [LAYERS[1].problem.label]


def _mini() -> Any:
    from accel.hardware import chip

    return chip("mini")


def test_a_store_that_cannot_be_used_costs_nothing_but_time(tmp_path: Path) -> None:
    damaged = tmp_path / "layers.sqlite"
    damaged.write_bytes(b"no database" * 100)
    (tmp_path / "file").write_text("")
    for path in (damaged, tmp_path / "file" / "below"):
        assert time_layers(LAYERS[:2], "mini", store=path, workers=1).complete
    with pytest.raises(InputError, match="workers=0: use an integer from 1"):
        time_layers(LAYERS, "mini", workers=0)


def test_what_is_missing_is_printed_with_its_reason() -> None:
    layers = (LAYERS[0], LAYERS[-1])
    timing = time_layers(layers, "mini", workers=1)
    text = str(network_tables("Net", "here", timing)[-1])
    assert "1 of 2 layers, one after the other" in text
    assert f"NOT in the sum, 1 layers:\n  fp32: {timing.missing[0].figure.reason}" in text


TINY = """
title = "Tiny"
source = "a test"
optimizer = "sgd"
[parameters]
batch = 2
[network]
layers = [
  { name = "conv", conv2d = ["batch", 6, 6, 3, 8, 3, 3], pad = 1, first = true, act = "relu" },
  { name = "fc", linear = ["batch", 10, 8] },
]
"""


def test_bench_prints_every_layer_and_the_sum(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.setattr(catalog, "_DATA", tmp_path)
    assert main(["bench", "network:tiny", "--training", "--chip", "mini", "--batch", "4"]) == 0
    table = capsys.readouterr().out
    for layer in network("tiny", training=True, batch=4):
        assert layer.name in table
        assert layer.problem.label in table
    assert "Tiny, training step (batch 4) on mini" in table
    assert "NOT in the sum" not in table
    assert main(["bench", "network:tiny", "--chip", "mini", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [layer["name"] for layer in found["layers"]] == ["conv", "conv relu", "fc"]
    assert found["sum"]["complete"] is True
    assert found["sum"]["seconds"] == pytest.approx(sum(layer["total_seconds"] for layer in found["layers"]))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["network:resnet"], "unknown network 'resnet'"),
        (["network:resnet50", "--shape", "1,2"], "--shape does not go with network:resnet50"),
        (["network:resnet50", "--explain"], "--explain does not go with network:resnet50"),
        (["network:resnet50", "--batch", "2", "--param", "batch=3"], "give it once"),
        (["network:resnet50", "--param", "dtype=fp16"], "use --dtype"),
        (["matmul", "--shape", "8x8x8", "--training"], "--training is about networks"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *arguments]) == 2
    said = capsys.readouterr().err
    assert text in said
    assert said.strip().count("\n") == 0
