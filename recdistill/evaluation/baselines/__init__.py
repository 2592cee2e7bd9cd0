"""Simple models to stand beside the student, tuned on the selection fit as hard as it was."""
