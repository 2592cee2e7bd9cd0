"""FuxiCTR on the rows and configuration that fuxictr_recipe.py wrote; runs in FuxiCTR's own environment.

Purpose: a DCN-v2 of FuxiCTR's own layers (Wang et al., arXiv 2008.13535), trained and judged by FuxiCTR.
Command: python fuxictr_peer.py FOLDER EXPERIMENT SEED     (fuxictr_recipe.py calls it)
Time: some 10 s an experiment of 30,000 rows. Memory: about 1 GB.
Expected: the last line it prints is JSON: FuxiCTR's own metrics of the test rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from fuxictr.features import FeatureMap
from fuxictr.preprocess import FeatureProcessor, build_dataset
from fuxictr.pytorch.dataloaders import RankDataLoader
from fuxictr.pytorch.layers import CrossNetV2, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel
from fuxictr.pytorch.torch_utils import seed_everything
from fuxictr.utils import load_config, set_logger


class CrossNetwork(BaseModel):
    """Cross layers and a perceptron side by side over the embedded features: DCN-v2's parallel form.

    Args:
        feature_map: FuxiCTR's, of the columns that the experiment has.
        params: the experiment's settings, which FuxiCTR's base model reads many of.
    """

    def __init__(self, feature_map: FeatureMap, params: dict[str, Any]) -> None:
        super().__init__(feature_map, **params)
        self.embedding_layer = FeatureEmbedding(feature_map, params["embedding_dim"])
        width = feature_map.sum_emb_out_dim()
        self.cross = CrossNetV2(width, params["cross_layers"])
        self.deep = MLP_Block(input_dim=width, hidden_units=params["hidden_units"], dropout_rates=params["net_dropout"])
        self.last = torch.nn.Linear(width + params["hidden_units"][-1], 1)
        self.compile(params["optimizer"], params["loss"], params["learning_rate"])
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """A batch's columns → ``y_pred`` [B, 1]."""
        embedded = self.embedding_layer(self.get_inputs(inputs), flatten_emb=True)
        logit = self.last(torch.cat([self.cross(embedded), self.deep(embedded)], dim=-1))
        return {"y_pred": self.output_activation(logit)}


def main() -> None:
    """Train one experiment and print the test metrics."""
    folder, experiment, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    params = load_config(str(folder / "config"), experiment)
    set_logger(params)
    seed_everything(seed)
    encoder = FeatureProcessor(**params)
    params["train_data"], params["valid_data"], params["test_data"] = build_dataset(encoder, **params)
    feature_map = FeatureMap(params["dataset_id"], encoder.data_dir)
    feature_map.load(encoder.json_file, params)
    model = CrossNetwork(feature_map, params)
    train, valid = RankDataLoader(feature_map, stage="train", **params).make_iterator()
    model.fit(train, validation_data=valid, epochs=params["epochs"])
    test = RankDataLoader(feature_map, stage="test", **params).make_iterator()
    print(json.dumps({name: float(value) for name, value in model.evaluate(test).items()}))


if __name__ == "__main__":
    main()
