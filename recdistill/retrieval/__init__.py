"""Full-ranking retrieval: what is asked (cases) and where the answer stands (ranks). Below every stage."""
