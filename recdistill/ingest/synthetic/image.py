"""Drawn images: the shape hints at the topic's place in its genre, its size at view 1, its colour at view 4.

Background colour, gradient, grain and the place of the shapes are nuisance, and most of the pixels.
"""

from __future__ import annotations

import colorsys
import io
import math

import numpy as np
from PIL import Image, ImageDraw

from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.streams import Stream, generator
from recdistill.ingest.synthetic.vocabulary import TOPICS_PER_GENRE

_RIGHT_SHAPE = 0.8
_VIEW_NOISE = 0.5  # s.d. of the noise on a drawn view
_BLUE, _ORANGE = np.array([90.0, 170.0, 255.0]), np.array([255.0, 190.0, 80.0])
_GRAIN = 14.0
_SUPERSAMPLING = 2


def draw(config: WorldConfig, catalogue: Catalogue, *, item: int, frame: int) -> bytes:
    """The PNG of an item's frame, from ``(seed, item, frame)``. All frames of an item have the same noise on views."""
    shown = generator(config.seed, Stream.IMAGE, item)
    noise = _VIEW_NOISE * shown.standard_normal(2)
    right = shown.random() < _RIGHT_SHAPE * config.clarity
    other = int(shown.integers(0, TOPICS_PER_GENRE))
    kind = int(catalogue.topic[item]) % TOPICS_PER_GENRE if right else other
    size_view, colour_view = _mix(catalogue.views[item, [1, 4]], noise, config.clarity)
    rng = np.random.default_rng([config.seed, int(Stream.IMAGE), item, frame])
    side = config.image_pixels
    nuisance = catalogue.nuisance[item]
    pixels = _background(rng, side, hue=float(nuisance[1]), tone=float(nuisance[2]))
    large = side * _SUPERSAMPLING
    mask = Image.new("L", (large, large))
    radius = large * (0.21 + 0.11 * math.tanh(size_view / 1.5))
    centre = large * (0.5 + rng.uniform(-0.12, 0.12, 2))
    _shape(ImageDraw.Draw(mask), kind, float(centre[0]), float(centre[1]), radius)
    alpha = np.asarray(mask.resize((side, side), Image.Resampling.BOX), dtype=np.float64)[:, :, None] / 255
    blend = 0.5 + 0.5 * math.tanh(colour_view / 1.2)
    pixels = pixels * (1 - alpha) + ((1 - blend) * _BLUE + blend * _ORANGE) * alpha
    pixels += rng.normal(0, _GRAIN, (side, side, 1))
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, format="PNG")
    return file.getvalue()


def _mix(views: np.ndarray, noise: np.ndarray, clarity: float) -> tuple[float, float]:
    """Views with noise; without clarity noise alone, of the same spread."""
    first, second = clarity * views + math.sqrt(1 - clarity**2) * noise / _VIEW_NOISE + noise
    return float(first), float(second)


def _background(rng: np.random.Generator, side: int, *, hue: float, tone: float) -> np.ndarray:
    """[side, side, 3] a dim gradient of one hue."""
    turn = 0.5 + 0.5 * math.tanh(hue)
    value = 0.38 + 0.10 * math.tanh(tone)
    base = 255 * np.array(colorsys.hsv_to_rgb(turn, 0.6, value))
    angle = rng.uniform(0, 2 * math.pi)
    grid = np.linspace(-1, 1, side)
    slope = math.cos(angle) * grid[None, :] + math.sin(angle) * grid[:, None]
    return base * (1 + 0.3 * slope[:, :, None])


def _shape(pen: ImageDraw.ImageDraw, kind: int, x: float, y: float, radius: float) -> None:
    """Disc, square, triangle or cross, all of about the same area."""
    if kind == 0:
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    elif kind == 1:
        half = 0.89 * radius
        pen.rectangle((x - half, y - half, x + half, y + half), fill=255)
    elif kind == 2:
        far = 1.4 * radius
        pen.polygon([(x, y - far), (x + 0.87 * far, y + 0.7 * far), (x - 0.87 * far, y + 0.7 * far)], fill=255)
    else:
        far, bar = 1.25 * radius, 0.38 * radius
        pen.rectangle((x - far, y - bar, x + far, y + bar), fill=255)
        pen.rectangle((x - bar, y - far, x + bar, y + far), fill=255)
