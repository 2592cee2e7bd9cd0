"""Short waves: a weak high tone hints at view 2 by its pitch; the loud low chord and the hiss are nuisance."""

from __future__ import annotations

import io
import math

import numpy as np
import soundfile

from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.streams import Stream, generator

SAMPLE_RATE = 16_000
SECONDS = 1.0

_VIEW_NOISE = 0.5
_LOW, _HIGH = 220.0, 2_400.0  # Hz, middle of the chord's and of the tone's pitch


def sound(config: WorldConfig, catalogue: Catalogue, *, item: int) -> bytes:
    """The WAV (16-bit mono) of an item, from ``(seed, item)``."""
    rng = generator(config.seed, Stream.AUDIO, item)
    own, noise = rng.standard_normal(2)
    clarity = config.clarity
    view = clarity * float(catalogue.views[item, 2]) + math.sqrt(1 - clarity**2) * own + _VIEW_NOISE * noise
    nuisance = catalogue.nuisance[item]
    seconds = np.arange(int(SAMPLE_RATE * SECONDS)) / SAMPLE_RATE
    low = _LOW * 2 ** math.tanh(float(nuisance[3]))
    high = _HIGH * 2 ** (1.2 * math.tanh(view / 1.5))
    wave = 0.35 * np.sin(2 * np.pi * low * seconds + rng.uniform(0, 6.28))
    for harmonic in (2, 3):
        wave += 0.3 / harmonic * rng.random() * np.sin(2 * np.pi * harmonic * low * seconds + rng.uniform(0, 6.28))
    tremolo = 1 + 0.4 * np.sin(2 * np.pi * rng.uniform(2, 10) * seconds)
    wave += 0.16 * tremolo * np.sin(2 * np.pi * high * seconds + rng.uniform(0, 6.28))
    wave += 0.03 * math.exp(0.5 * rng.standard_normal()) * rng.standard_normal(len(seconds))
    file = io.BytesIO()
    soundfile.write(file, np.clip(wave, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()
