"""Frozen towers: what turns a text, a picture or a sound into vectors, the same alone and in any batch."""
