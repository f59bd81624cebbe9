"""Labelled photographs and the exact pixels that a model was evaluated with.

``sources`` finds images and labels, ``transforms`` makes pixels, ``loader`` makes batches. Importing any of them
does not import paddle: that happens when a loader is built.
"""
