"""Distillation objectives, one a file: tensors in, a scalar out, nothing of models, settings or logging inside."""
