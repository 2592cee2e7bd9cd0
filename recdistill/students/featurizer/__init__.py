"""The featurizer: what is learned of the catalogue before any student, and applied alike to new items."""
