"""The ``mine`` stage: a training log, item vectors and clusters → ``interest_pairs`` and a funnel.

Memory: see :mod:`recdistill.mining.stream`; and the tables of vectors while they are prepared.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pandas as pd

from recdistill.contracts.fold import FITS, Fold
from recdistill.contracts.tables import EmbeddingTable, write_json
from recdistill.mining.config import MiningConfig
from recdistill.mining.interests import Tally
from recdistill.mining.knowledge import Knowledge, content_vectors, external_content, item_keys, tag_clusters
from recdistill.mining.spark import mine_spark, session
from recdistill.mining.stream import Survey, mine_stream
from recdistill.mining.writer import pairs_file
from recdistill.retrieval.clusters import clusters


def mine(config: MiningConfig, *, fold: Fold, items: Path, content: Path, teach: Path, out: Path, seed: int) -> None:
    """Write ``out/<fit>/interest_pairs.parquet`` and ``funnel.json`` for both fits.

    Args:
        items: the items table, for its tags; content: the ``raw_content`` table; teach: folder with
            ``<fit>/<teacher>.parquet``.

    Raises:
        UserError: the settings name a label, column, tag field, table or engine that is not there.
    """
    item_ids = fold.item_ids()
    vectors = EmbeddingTable.read(content) if config.content is None else external_content(config.content, item_ids)
    compared = content_vectors(vectors, item_ids, width=config.content_width, seed=seed)
    del vectors
    tagged = None if config.tags is None else tag_clusters(items, config.tags, item_ids)
    keys = item_keys(item_ids)
    for fit in FITS:
        if tagged is None:
            table = EmbeddingTable.read(teach / fit / f"{config.teacher}.parquet")
            cluster = clusters(table, item_ids, count=config.clusters, seed=seed, kind=config.kmeans)
        else:
            cluster = tagged
        mine_fit(
            fold.training_files(fit),
            item_ids,
            Knowledge(compared, cluster, keys),
            config,
            out=out / fit,
            metadata={"seed": seed, "fit": fit},
            seed=seed,
        )


def mine_fit(
    files: list[Path],
    item_ids: pd.Index,
    known: Knowledge,
    config: MiningConfig,
    *,
    out: Path,
    metadata: dict[str, int | str],
    seed: int,
) -> None:
    """Mine one log into ``out``, here or under Spark; events of equal time have the files' order."""
    survey = Survey.of(files, config)
    tally = Tally()
    with pairs_file(out / "interest_pairs.parquet", config.perspectives, metadata=metadata) as writer:
        if config.engine == "spark":
            work = out / ".spark"
            shutil.rmtree(work, ignore_errors=True)  # of a run that was killed
            try:
                tally = mine_spark(session(), survey, item_ids, known, config, work=work, writer=writer, seed=seed)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        else:
            told = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]  # may be a list, one number a level of nesting
            threads = config.threads or (int(told) if told.isdigit() else 0) or os.cpu_count() or 1
            for mined in mine_stream(survey, item_ids, known, config, threads=threads, seed=seed):
                tally.add(mined.tally)
                for name, pairs in mined.pairs.items():
                    writer.add(name, pairs)
    write_json(tally.funnel(config, survey.kinds), out / "funnel.json")
