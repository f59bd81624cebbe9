"""What is done with a built model: evaluation and its verdict."""
