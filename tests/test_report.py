"""The demonstration and its page, on a chip and layers small enough to be whole."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.errors import InputError
from accel.networks import LAYERS, Layer, layers
from accel.problem import Matmul
from accel.report import page, showcase


class Page(HTMLParser):
    """Collects the tags, the text and every address that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def shown() -> list[showcase.Shown]:
    small = (
        Layer("net<1>", "a & b", Matmul(40, 24, 16), 'source "one"'),
        Layer("net<1>", "ragged", Matmul(33, 17, 29), "source two"),
    )
    return list(showcase.show(accel.chip("mini"), small))


def test_every_layer_is_verified_and_set_next_to_gpus(shown: list[showcase.Shown]) -> None:
    assert [s.hazards for s in shown] == [0, 0]
    assert [s.verified for s in shown] == [(40 * 24, 40 * 24, 0), (33 * 17, 33 * 17, 0)]
    for s in shown:
        assert {row.name for row in s.comparison.baselines} == set(showcase.GPUS)
        assert s.comparison.timing.cycles == s.comparison.program.time().cycles


def test_the_page_is_whole_and_fetches_nothing(shown: list[showcase.Shown], tmp_path: Path) -> None:
    text = page.render(shown, title="a <b> title", facts=[("made & by", "<me>")])
    parsed = Page()
    parsed.feed(text)
    words = " ".join(parsed.text)
    assert parsed.addresses == []
    assert "script" not in parsed.tags
    assert "a <b> title" in words
    assert "made & by" in words
    assert "net<1>: a & b" in words
    assert words.count("bit-equal") == len(shown)
    for s in shown:
        assert f"{s.comparison.chip.cycles:,}" in words
    widths = [float(w) for w in re.findall(r"<i style='width:([0-9.]+)%", text)]
    assert sum(widths) == pytest.approx(100 * len(shown), abs=0.01)
    target = page.write(text, tmp_path / "report.html")
    assert target.read_text("utf-8") == text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_wrong_bit_is_shown_as_wrong(shown: list[showcase.Shown]) -> None:
    broken = shown[0]._replace(verified=shown[0].verified._replace(wrong=3), hazards=2)
    text = page.render([broken], title="t", facts=[])
    assert "3 WRONG" in text
    assert "2 FOUND" in text
    assert "<span class=bad>" in text


def test_a_page_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write"):
        page.write("x", tmp_path / "absent" / "report.html")
    assert list(tmp_path.iterdir()) == []


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
    assert {x.network for x in layers("gpt3-175b")} == {"gpt3-175b"}
    assert layers() == LAYERS
    assert layers("no such network") == ()
