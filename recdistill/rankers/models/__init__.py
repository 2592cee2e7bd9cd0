"""The rankers: each takes a task and gives the logits of its newest training rows and of its test rows."""

from __future__ import annotations

from recdistill.rankers.config import RankConfig
from recdistill.rankers.inputs import How, Scored, Task
from recdistill.rankers.models.dcn import train_dcn
from recdistill.rankers.models.din import train_din
from recdistill.rankers.models.dlrm import train_dlrm
from recdistill.rankers.models.trees import train_trees
from recdistill.rankers.names import ModelName


def train_model(model: ModelName, config: RankConfig, task: Task, how: How) -> Scored:
    """Train one ranker on a task's older rows; its newest ones choose how long."""
    if model == "dlrm":
        return train_dlrm(config.dlrm, task, how)
    if model == "dcn":
        return train_dcn(config.dcn, task, how)
    if model == "din":
        return train_din(config.din, task, how)
    return train_trees(config.trees, task, how)
