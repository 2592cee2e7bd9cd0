"""Writes a planted world as canonical tables with its truth beside them.

Memory: max over blocks of the simulation (``users_per_block * items / 8`` bytes for what was seen, and about 60 bytes
an event of the block) + about 200 bytes an event of the part being written (a million) + about 1 kB an item + 8 bytes
a user. The block count only adds time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recdistill.contracts.tables import atomic, write_json, write_table
from recdistill.ingest.files import INTERACTIONS, ITEMS, MEDIA, MEDIA_SCHEMA
from recdistill.ingest.synthetic.audience import blocks, build_users, user_numbers
from recdistill.ingest.synthetic.catalogue import Catalogue
from recdistill.ingest.synthetic.config import WorldConfig
from recdistill.ingest.synthetic.exposure import Policy, logging_policy
from recdistill.ingest.synthetic.simulate import simulate_block
from recdistill.ingest.synthetic.tables import (
    INTERACTIONS_SCHEMA,
    MEDIA_ROWS,
    interactions,
    items,
    media,
    truth_items,
    truth_users,
    truth_visits,
)
from recdistill.progress import track

SINGLE_FILE_ROWS = 5_000_000
PART_ROWS = 1_000_000

TRUTH = "truth"
TRUTH_ITEMS, TRUTH_USERS, TRUTH_VISITS, TRUTH_CONFIG = "items.parquet", "users.parquet", "visits.parquet", "world.json"


def write_world(config: WorldConfig, *, out: Path, policy: Policy = logging_policy) -> None:
    """Write ``out/{interactions,items,media}.parquet`` and ``out/truth/{items,users,visits}.parquet, world.json``.

    ``interactions.parquet`` is one file below 5M events and a folder of parts above; pyarrow reads both alike. Same
    config, same bytes. ``truth`` is for judges: no stage that learns may read it.

    Args:
        policy: what the platform shows; another one than the default makes the other arm of a simulated A/B test.
    """
    catalogue = Catalogue.build(config)
    provenance = {"adapter": "synthetic", "seed": config.seed}
    table, frames, sounds = items(config, catalogue)
    write_table(table, out / ITEMS, metadata=provenance)
    write_table(truth_items(catalogue), out / TRUTH / TRUTH_ITEMS)
    with _one_file(out / MEDIA, MEDIA_SCHEMA) as write_media, track("ingest · media", len(catalogue)) as advance:
        for piece in media(config, catalogue, frames, sounds):
            write_media(piece)
            advance(MEDIA_ROWS)
    numbers = user_numbers(config)
    with (
        _parts(out / INTERACTIONS) as write_events,
        _one_file(out / TRUTH / TRUTH_USERS, None) as write_users,
        _one_file(out / TRUTH / TRUTH_VISITS, None) as write_visits,
        track("ingest · users", config.users) as advance,
    ):
        for block in range(blocks(config)):
            users = build_users(config, catalogue, block=block, numbers=numbers)
            events = simulate_block(config, catalogue, users, block=block, policy=policy)
            write_events(interactions(catalogue, users, events))
            write_users(truth_users(users))
            write_visits(truth_visits(config, users, events))
            advance(len(users))
    write_json(config.model_dump(mode="json"), out / TRUTH / TRUTH_CONFIG)


@contextmanager
def _one_file(path: Path, schema: pa.Schema | None) -> Iterator[Callable[[pa.Table], None]]:
    """Write pieces into one file that appears when all are written; without a schema the first piece gives it."""
    writer: pq.ParquetWriter | None = None
    with atomic(path) as temporary:
        try:
            if schema is not None:
                writer = pq.ParquetWriter(temporary, schema)

            def write(piece: pa.Table) -> None:
                nonlocal writer
                writer = writer or pq.ParquetWriter(temporary, piece.schema)
                writer.write_table(piece)

            yield write
        finally:
            if writer is not None:
                writer.close()


@contextmanager
def _parts(path: Path) -> Iterator[Callable[[pa.Table], None]]:
    """Write blocks of events as parts; at the end they become one file or a folder in place of ``path``."""
    folder = path.with_name(f".{path.name}.parts")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    waiting: list[pa.Table] = []
    counts: list[int] = []

    def flush() -> None:
        part = pa.concat_tables(waiting) if waiting else INTERACTIONS_SCHEMA.empty_table()
        pq.write_table(part, folder / f"part-{len(counts):05d}.parquet")
        counts.append(len(part))
        waiting.clear()

    def write(table: pa.Table) -> None:
        waiting.append(table)
        if sum(map(len, waiting)) >= PART_ROWS:
            flush()

    try:
        yield write
        if waiting or not counts:
            flush()
        if sum(counts) < SINGLE_FILE_ROWS:
            _remove_folder(path)
            with _one_file(path, INTERACTIONS_SCHEMA) as write_piece:
                for part in sorted(folder.iterdir()):
                    write_piece(pq.read_table(part))
        else:
            _remove_folder(path)
            path.unlink(missing_ok=True)
            os.replace(folder, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_folder(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
