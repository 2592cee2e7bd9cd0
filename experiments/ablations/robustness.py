"""One trained student with less than it was trained on: subsets of modalities, half of the fields, narrower vectors.

Purpose: an item in use lacks pictures, a plot, its tags; and who serves vectors wants them narrow. The student is
trained once a seed with modality and field dropping; nothing is trained again for what is taken away.
Command: python experiments/ablations/robustness.py RECIPE [data.root=FOLDER] --out FOLDER [--seeds 0,1,2]
         [--steps 1000] [--batch 128] [--kind fusion] [--field-dropout 0.5]
Time: two to four minutes a seed on two cores, encoding field by field and teachers apart. Memory: 3 GB.
Expected: a table as content_aware.py's, a row a subset; aimed at are 5 % lost on content pairs with half of the fields,
and 3 % with half of the width. "all lack half of the fields" takes them from the whole catalogue, "who asks lacks" from
the query items alone, as where one item of a catalogue was described badly.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from lab import BENCHMARKS, Lab, ablate, arguments, print_table

from recdistill.exits import exit_codes
from recdistill.pretrain.phases import Pretraining
from recdistill.students import FeatureStore

FIELDS = ("text", "structured")
SETTINGS = ("encoders.text.tokens=fields", "encoders.structured.tokens=fields", "teachers.sequence=null", "pairs={}")


@exit_codes()
def main() -> None:
    """Train once a seed, take things away, judge, print."""
    parser = arguments(__doc__, steps=1000)
    parser.add_argument("--kind", choices=("linear", "fusion"), default="fusion")
    parser.add_argument("--field-dropout", type=float, default=0.5)
    of = parser.parse_args()
    student = {
        "kind": of.kind,
        "modality_dropout": 0.1,
        "field_dropout": of.field_dropout,
        "dropout": 0.0,
        "queries": 2,
    }
    phase = {"name": "all", "steps": of.steps, "specialised": False}

    def experiment(lab: Lab) -> None:
        _judge(lab, lab.train(student, {"phases": [phase], "batch_size": of.batch}))
        print(f"seed {lab.seed}, {lab.fold.name}: judged", flush=True)

    records, _ = ablate(of, SETTINGS, "robustness", experiment)
    print_table(records)


def _judge(lab: Lab, trained: Pretraining) -> None:
    student = trained.student.eval()
    store = trained.items
    assert isinstance(store, FeatureStore)  # no tower is tuned here
    full = student.encode_store(store)

    def judge(name: str, vectors: np.ndarray, asking: np.ndarray | None = None) -> None:
        lab.judge(name, dict.fromkeys(BENCHMARKS, vectors), asking)

    judge("everything", full)
    for width in student.prefixes[:-1]:
        judge(f"first {width} of {full.shape[1]}", full[:, :width])
    lacking = student.encode_store(_without_fields(store, chance=0.5, seed=lab.seed))
    judge("all lack half of the fields", lacking)
    judge("who asks lacks half of them", full, lacking)
    for size in range(1, len(student.modalities)):
        for subset in itertools.combinations(student.modalities, size):
            present = {m: there & (m in subset) for m, there in store.present.items()}
            judge(" + ".join(subset), student.encode_store(FeatureStore(store.item_ids, store.features, present)))


def _without_fields(store: FeatureStore, *, chance: float, seed: int) -> FeatureStore:
    """Each text and structured field that an item has is lost with that chance; one of an item's stays."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.cat([(store.features[m] != 0).any(-1) for m in FIELDS if m in store.features], dim=1)  # [I, fields]
    draw = torch.rand(there.shape, generator=generator)
    kept = there & (draw >= chance)
    spared = torch.nn.functional.one_hot(draw.masked_fill(~there, -1.0).argmax(1), there.shape[1]).bool()
    kept = kept | (there & spared & ~kept.any(1, keepdim=True))
    features, present, column = dict(store.features), dict(store.present), 0
    for modality in (m for m in FIELDS if m in store.features):
        mine = kept[:, column : column + features[modality].shape[1]]
        column += mine.shape[1]
        features[modality] = features[modality] * mine[..., None]
        present[modality] = present[modality] & mine.any(1)
    return FeatureStore(store.item_ids, features, present)


if __name__ == "__main__":
    main()
