"""One family a file; parameter names are the official checkpoints' names."""
