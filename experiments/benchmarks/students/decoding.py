"""Pictures: what decoding costs beside the tower, when a catalogue is encoded and when a tower is trained.

Purpose: decoding must never be what is waited for. Encoding: a core decodes what it encodes, so decoding costs its
share of the work and no more. Training: other threads prepare the next batch while a step runs.
Command: python experiments/benchmarks/students/decoding.py posters.parquet --column jpeg [--count 128] [--batch 8]
Time: two minutes with OMP_NUM_THREADS=1. Memory: about 3 GB (CLIP-B/32 is trained, with random weights: speed does not
depend on them).
Expected: on posters of 5 kB decoding and preparing take a tenth of the packaged tower's time and a hundredth of CLIP's;
of a training step the wait for a batch that was prepared ahead is less than a hundredth.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from recdistill.contracts import names
from recdistill.contracts.tables import write_table
from recdistill.exits import exit_codes
from recdistill.students.config import ImageEncoderConfig
from recdistill.students.encoders.image import image_tower
from recdistill.students.encoders.tower import NetworkTower, encode_media, join, on_cores, run
from recdistill.students.live import LiveMedia
from recdistill.students.media_files import MediaFiles

MAX_BYTES = 64 << 20


@exit_codes()
def main() -> None:
    """Print a table of encoding and one of training, a row a tower."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="a Parquet file")
    parser.add_argument("--column", default="jpeg", help="its column of pictures' bytes")
    parser.add_argument("--count", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8, help="pictures a training step")
    parser.add_argument("--steps", type=int, default=4)
    arguments = parser.parse_args()
    column = pq.read_table(arguments.pictures, columns=[arguments.column])[arguments.column]
    pictures: list[bytes] = [one.as_py() for one in column.drop_null().slice(0, arguments.count)]
    kilobytes = statistics.mean(len(one) for one in pictures) / 1000
    print(f"{len(pictures)} pictures of {kilobytes:.0f} kB, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        towers = {
            "efficientnet-lite0, 160 px": image_tower(ImageEncoderConfig(), max_bytes=MAX_BYTES),
            "CLIP-B/32, 224 px": image_tower(ImageEncoderConfig(name=str(_clip(Path(folder)))), max_bytes=MAX_BYTES),
        }
        print(f"\n{'encoding, ms a picture':<28}{'all':>8}{'prepared':>10}{'ratio':>8}{'decoding, one thread':>22}")
        for name, tower in towers.items():
            whole, bare, decoding = _encoding(tower, pictures)
            print(f"{name:<28}{whole:>8.1f}{bare:>10.1f}{whole / bare:>8.2f}{decoding:>22.1f}")
        print(f"\n{'training, ms a step':<28}{'step':>8}{'wait':>8}{'share':>8}{'wait, nothing ahead':>22}")
        media = Path(folder) / "media.parquet"
        _write(media, pictures)
        for name, tower in towers.items():
            step, ahead, cold = _training(tower, media, batch=arguments.batch, steps=arguments.steps)
            print(f"{name:<28}{step:>8.0f}{ahead:>8.1f}{ahead / step:>8.1%}{cold:>22.0f}")


def _encoding(tower: NetworkTower, pictures: Sequence[bytes]) -> tuple[float, float, float]:
    """Milliseconds a picture: all of it, the network alone, and decoding and preparing in one thread."""
    encode_media(tower, pictures[:16])  # loads the weights
    started = time.perf_counter()
    ready = [tower.input(picture) for picture in pictures]
    decoding = time.perf_counter() - started
    size = tower.micro_batch
    batches = [join(ready[start : start + size]) for start in range(0, len(ready), size)]
    whole, bare = _interleaved(
        lambda: encode_media(tower, pictures), lambda: on_cores(lambda batch: run(tower.network, batch), batches)
    )
    return tuple(1e3 * seconds / len(pictures) for seconds in (whole, bare, decoding))  # type: ignore[return-value]


def _training(tower: NetworkTower, media: Path, *, batch: int, steps: int) -> tuple[float, float, float]:
    """Milliseconds: forward and backward, the wait for a batch prepared meanwhile, and for one that was not."""
    ids = pq.read_table(media, columns=[names.MEDIA_ID])[names.MEDIA_ID].to_pylist()
    files = MediaFiles(media, set(ids))
    live = LiveMedia([[one] for one in ids], files=files, prepare=tower.input, average=False, threads=2)
    network = tower.network.requires_grad_(True).train()
    rows = [[(step * batch + place) % len(ids) for place in range(batch)] for step in range(steps + 2)]
    times: dict[str, list[float]] = {"cold": [], "step": [], "ahead": []}

    def timed(name: str, work: Callable[[], object]) -> object:
        started = time.perf_counter()
        done = work()
        times[name].append(1e3 * (time.perf_counter() - started))
        return done

    for step in range(steps):
        timed("cold", lambda step=step: live.batch(rows[step]))
    live.prefetch(rows[0])
    for step in range(steps + 1):
        raw, _ = timed("ahead", lambda step=step: live.batch(rows[step]))  # type: ignore[misc]
        live.prefetch(rows[step + 1])
        timed("step", lambda raw=raw: network(**raw.inputs).square().mean().backward())
    return tuple(statistics.median(times[name][1:]) for name in ("step", "ahead", "cold"))  # type: ignore[return-value]


def _interleaved(*runs: Callable[[], object], rounds: int = 3) -> list[float]:
    """Median seconds of each, taken in turn so that a busy machine slows all."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(rounds):
        for which, work in enumerate(runs):
            started = time.perf_counter()
            work()
            times[which].append(time.perf_counter() - started)
    return [statistics.median(of) for of in times]


def _clip(folder: Path) -> Path:
    CLIPVisionModel(CLIPVisionConfig()).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def _write(path: Path, pictures: Sequence[bytes]) -> None:
    columns = {
        names.MEDIA_ID: pa.array([str(number) for number in range(len(pictures))]),
        names.MEDIA_PATH: pa.nulls(len(pictures), pa.string()),
        names.MEDIA_BYTES: pa.array(list(pictures), pa.binary()),
    }
    write_table(pa.table(columns), path)


if __name__ == "__main__":
    main()
