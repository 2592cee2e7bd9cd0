"""sentence-transformers with its tower frozen: how many pairs a second its trainer takes, and its encode texts.

Run by ``speed.py`` in an environment of its own; reads and writes JSON.
Command: python sentence_peer.py IN.json OUT.json
Time: about a minute. Memory: 2 GB.
Expected: pairs/s, texts/s and the embeddings' first values.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Measure."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss
    from sentence_transformers.models import Dense, Pooling, Transformer

    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tower = Transformer(asked["model"], max_seq_length=asked["max_tokens"])
    for parameter in tower.parameters():
        parameter.requires_grad = False
    width = tower.get_word_embedding_dimension()
    head = Dense(width, asked["dim"], activation_function=None)
    model = SentenceTransformer(modules=[tower, Pooling(width), head], device="cpu")
    texts = asked["texts"]
    rows = [(texts[a], texts[b]) for a, b in asked["pairs"]]
    data = Dataset.from_dict({"anchor": [a for a, _ in rows], "positive": [b for _, b in rows]})
    arguments = SentenceTransformerTrainingArguments(
        output_dir=asked["folder"],
        per_device_train_batch_size=asked["batch"],
        max_steps=asked["steps"],
        learning_rate=1e-3,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=data,
        loss=MultipleNegativesRankingLoss(model, scale=1 / asked["tau"]),
    )
    seconds = trainer.train().metrics["train_runtime"]
    plain = SentenceTransformer(modules=[tower, Pooling(width)], device="cpu")
    plain.encode(texts[:64])
    started = time.perf_counter()
    vectors = plain.encode(texts, show_progress_bar=False)
    encoding = time.perf_counter() - started
    result = {
        "pairs_per_second": asked["steps"] * asked["batch"] / seconds,
        "texts_per_second": len(texts) / encoding,
        "first": vectors[0][:8].tolist(),
    }
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
