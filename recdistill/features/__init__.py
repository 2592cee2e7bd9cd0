"""What rankers and the export both make of an embedding table: semantic IDs and match features."""
