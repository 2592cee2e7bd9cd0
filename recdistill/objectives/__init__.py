"""Objectives, one a file: tensors in, a scalar out, nothing of settings or logging inside."""
