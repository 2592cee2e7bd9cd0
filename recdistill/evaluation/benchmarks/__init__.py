"""What is asked of every subject: questions to users, questions to items, comparisons of spaces."""
