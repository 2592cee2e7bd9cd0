"""The report's sections: each reads a run folder and gives blocks, or says which file it misses."""
