"""The tables through which stages meet, and nothing else: names, checks, reading and writing."""
