"""Checkpoints in, checkpoints out. Nothing in a file is ever executed, every tensor is accounted for.

``readers`` open a file by its content into a tree of lazy tensors; ``layouts`` say whose names they have; ``plan``
matches them with a model, strictly; ``apply`` loads and ``store`` writes.
"""
