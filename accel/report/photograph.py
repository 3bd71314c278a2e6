"""A real photograph through the first layers of a vision backbone: to the bit, checked, timed, and shown as images."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from accel import comparison
from accel.hardware import ChipSpec
from accel.problem import Conv2d
from accel.program import Verified
from accel.report.subject import Picture, Subject
from accel.verification import verify

__all__ = ["HEIGHT", "WIDTH", "Photograph", "backbone", "filters", "jpeg", "load", "mosaic", "shown"]

HEIGHT, WIDTH = 960, 1280  # of one frame of the cameras that the chip's frame formats describe
SOURCE = "grace_hopper.jpg, a sample image of matplotlib (public domain, US Navy), cropped to 4:3 and resampled"
TILES = 8  # channels that a mosaic shows
_QUALITY = 75  # of the JPEGs in the page, whose size is limited


class Photograph(NamedTuple):
    """An image as numbers from 0 to 255, (height, width, 3) uint8, and where it comes from."""

    pixels: np.ndarray
    source: str


def load() -> Photograph | None:
    """Return the photograph that matplotlib ships, at 1280 x 960; None where matplotlib is not installed."""
    try:
        from matplotlib.cbook import get_sample_data
        from PIL import Image
    except ImportError:
        return None
    with Image.open(str(get_sample_data("grace_hopper.jpg", asfileobj=False))) as image:
        width, height = image.size
        kept = width * HEIGHT // WIDTH
        top = (height - kept) // 4  # the face is in the upper half
        part = image.convert("RGB").crop((0, top, width, top + kept))
        return Photograph(np.asarray(part.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)), SOURCE)


def filters(taps: int, inputs: int, outputs: int, seed: int) -> np.ndarray:
    """Return filters (taps, taps, inputs, outputs) in float64: of an image edges and spots in colours, else random.

    Edges are derivatives of a Gaussian at eight angles, spots its Laplacian; each in brightness, red against green, and
    blue against yellow. Random filters have the variance 2 / (taps^2 inputs) of He et al., 2015.
    """
    if inputs != 3:
        rng = np.random.default_rng(seed)
        return rng.normal(0, np.sqrt(2 / (taps * taps * inputs)), (taps, taps, inputs, outputs))
    y, x = np.mgrid[:taps, :taps] - (taps - 1) / 2
    bell = np.exp(-(x * x + y * y) / 2)
    angles = np.arange(8) * np.pi / 8
    shapes = [bell * (x * np.cos(a) + y * np.sin(a)) for a in angles] + [bell * (x * x + y * y - 2), bell]
    colours = np.array([(1, 1, 1), (1, -1, 0), (-0.5, -0.5, 1)])
    kinds = [shape[..., None] * colour for colour in colours for shape in shapes]
    chosen = (kinds + [-kind for kind in kinds])[:outputs]
    return np.stack([kind / np.abs(kind).sum() for kind in chosen], axis=-1)


def backbone() -> tuple[tuple[str, Conv2d, str], ...]:
    """Return (name, problem, source) of the layers, each on the output of the one before."""
    regnet = "RegNet stem (Radosavovic et al., CVPR 2020): 3x3, stride 2, 32 channels"
    drawn = "downsampling of a first RegNet stage, filters drawn at random (He et al., 2015): nothing is trained"
    stem = Conv2d(1, HEIGHT, WIDTH, 3, 32, 3, 3, stride=2, pad=1, activation="relu")
    stage = Conv2d(1, HEIGHT // 2, WIDTH // 2, 32, 48, 3, 3, stride=2, pad=1, activation="relu")
    return ("photograph: stem 3x3/2 3-32", stem, regnet), ("photograph: stage 1 3x3/2 32-48", stage, drawn)


def shown(chip: ChipSpec, photograph: Photograph, gpus: tuple[str, ...]) -> Iterator[Subject]:
    """Yield each layer as a subject: run whole, compared with its oracle, checked for hazards, timed, as images."""
    values: Any = (photograph.pixels.astype(np.float32) / 255 - 0.5) * 4  # about -2 to 2, as after a normalisation
    first = Picture(jpeg(photograph.pixels), "image/jpeg", "A photograph of a woman in uniform", photograph.source)
    activations: Any = values[None]
    for seed, (name, problem, source) in enumerate(backbone()):
        compared = comparison.bench(problem, chip, gpus)
        weights = filters(problem.r, problem.c, problem.k, seed)
        inputs = {"x": activations, "w": weights}
        began = time.perf_counter()
        outputs = compared.program.run(inputs)
        spent = time.perf_counter() - began
        verdict = verify(problem, compared.program, inputs, outputs, seed=seed)
        hazards = len(compared.program.findings(schedules=0))
        activations = outputs["y"]
        maps = Picture(
            jpeg(mosaic(np.asarray(activations[0], np.float32))), "image/jpeg",
            f"{TILES} channels of the output as grey images",
            f"{TILES} of {problem.k} channels of the output, run to the bit in {spent:.1f} s of this host; bright is "
            "large, each channel stretched to its own range",
        )  # fmt: skip
        yield Subject(
            label=name, program=compared.program, timing=compared.timing, comparison=compared, origin=source,
            verified=Verified(verdict.checked, verdict.total, verdict.mismatches), hazards=hazards,
            pictures=(maps,) if seed else (first, maps),
        )  # fmt: skip


def mosaic(features: np.ndarray, tiles: int = TILES) -> np.ndarray:
    """Return (h, w, channels) as one grey image uint8: the `tiles` channels that vary most, four in a row."""
    spread = features.std(axis=(0, 1))
    chosen = np.sort(np.argsort(-spread, kind="stable")[:tiles])
    low, high = np.percentile(features[..., chosen], (1, 99), axis=(0, 1))
    scaled = np.clip((features[..., chosen] - low) / np.maximum(high - low, 1e-6), 0, 1)
    cells = [np.pad(scaled[..., i], 2, constant_values=1.0) for i in range(len(chosen))]
    columns = min(4, len(cells))
    rows = [np.hstack(cells[i : i + columns]) for i in range(0, len(cells) // columns * columns, columns)]
    return np.asarray(np.round(255 * np.vstack(rows)), np.uint8)


def jpeg(pixels: np.ndarray, widest: int = 960) -> bytes:
    """Return an image, (h, w) or (h, w, 3) uint8, as a JPEG of at most `widest` pixels across."""
    from PIL import Image

    image = Image.fromarray(pixels)
    if image.width > widest:
        image = image.resize((widest, image.height * widest // image.width))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
