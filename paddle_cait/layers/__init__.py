"""Blocks that two or more families share, one concept a file."""
