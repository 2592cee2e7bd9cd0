"""RecTools' SASRec on interactions that quality.py wrote; runs in the peer's own environment.

Purpose: vectors of the peer for quality.py, which ranks them as it ranks ours.
Command: python sasrec_peer.py JOB.json     (quality.py calls it)
Time: set by the job's epochs. Memory: about 1.5 GB.
Expected: the job's output file, .npz with items, seconds, and vectors_E and states_E after each of the job's epochs E.
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
    dataset = Dataset.construct(frame)
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
        epochs=job["epochs"][-1],
        deterministic=False,
        use_causal_attn=True,
        use_key_padding_mask=False,
    )
    seconds, done, found = 0.0, 0, {}
    for epochs in job["epochs"]:
        started = time.perf_counter()
        model.fit_partial(dataset, min_epochs=epochs - done, max_epochs=epochs - done)
        seconds, done = seconds + time.perf_counter() - started, epochs
        items, found[f"vectors_{epochs}"], found[f"states_{epochs}"] = answers(model, given["query"], job["length"])
    np.savez(job["output"], items=items, seconds=seconds, **found)


def answers(model: SASRecModel, queries: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[V] items, their [V, d] vectors, and the [C, d] states behind [C, L] queries (-1 = padding behind)."""
    network = model.lightning_model.torch_model.eval()
    items = model.data_preparator.get_known_item_ids().astype(np.int64)
    place = np.full(int(max(items.max(), queries.max())) + 1, -1)  # histories go on behind the training
    place[items] = model.data_preparator.item_id_map.convert_to_internal(items)
    states = []
    with torch.no_grad():
        vectors = network.item_model.get_all_embeddings()
        for rows in np.array_split(queries, max(1, len(queries) // 256)):
            padded = np.zeros((len(rows), length), dtype=np.int64)
            for at, row in enumerate(rows):
                known = place[row[row >= 0]]
                known = known[known >= 0][-length:]
                if len(known):
                    padded[at, -len(known) :] = known
            states.append(network.encode_sessions({"x": torch.from_numpy(padded)}, vectors)[:, -1])
    return items, vectors[place[items]].numpy(), torch.cat(states).numpy()


if __name__ == "__main__":
    main()
