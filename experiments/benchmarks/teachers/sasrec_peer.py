"""RecTools' SASRec on interactions that quality.py wrote; runs in the peer's own environment.

Purpose: vectors of the peer for quality.py, which ranks them as it ranks ours.
Command: python sasrec_peer.py JOB.json     (quality.py calls it)
Time: set by the job's epochs. Memory: about 1.5 GB.
Expected: the job's output file, .npz with items, vectors and states.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rectools.dataset import Dataset
from rectools.models import SASRecModel


def main() -> None:
    """Train as the job says, and write item vectors and the states behind the job's queries."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    np.random.seed(job["seed"])  # noqa: NPY002, their sampler reads it
    given = np.load(job["input"])
    frame = pd.DataFrame({"user_id": given["user"], "item_id": given["item"], "weight": 1.0})
    # The order among a user's positives is all that counts; a minute apart keeps it.
    frame["datetime"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(len(frame)), unit="min")
    model = SASRecModel(
        n_blocks=2,
        n_heads=2,
        n_factors=job["dim"],
        dropout_rate=job["dropout"],
        session_max_len=job["length"],
        loss=job["loss"],
        n_negatives=job["negatives"],
        lr=job["lr"],
        batch_size=128,
        epochs=job["epochs"],
        deterministic=False,
        use_causal_attn=True,
        use_key_padding_mask=False,
    )
    started = time.perf_counter()
    model.fit(Dataset.construct(frame))
    seconds = time.perf_counter() - started
    network = model.lightning_model.torch_model.eval()
    ids = model.data_preparator.item_id_map
    with torch.no_grad():
        vectors = network.item_model.get_all_embeddings()
        queries = given["query"]  # [C, L] items, -1 = padding behind
        place = np.full(int(max(given["item"].max(), queries.max())) + 1, -1)  # histories go on behind the training
        items = model.data_preparator.get_known_item_ids()
        place[items.astype(int)] = ids.convert_to_internal(items)
        states = []
        for rows in np.array_split(queries, max(1, len(queries) // 256)):
            padded = np.zeros((len(rows), job["length"]), dtype=np.int64)
            for at, row in enumerate(rows):
                known = place[row[row >= 0]]
                known = known[known >= 0][-job["length"] :]
                if len(known):
                    padded[at, -len(known) :] = known
            states.append(network.encode_sessions({"x": torch.from_numpy(padded)}, vectors)[:, -1])
    np.savez(
        job["output"],
        items=items.astype(np.int64),
        vectors=vectors[place[items.astype(int)]].numpy(),
        states=torch.cat(states).numpy(),
        seconds=seconds,
        users=frame["user_id"].nunique(),
    )


if __name__ == "__main__":
    main()
