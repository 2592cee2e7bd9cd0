"""Content-aware training of the student on pair datasets (METHOD 3)."""
