"""Speed beside timm's, in one run: every engine in a process of its own, one at work at a time, rounds interleaved.

The conductor (``run``) imports no framework. It asks worker processes (``channel``, ``worker``) to prepare themselves,
to prove that they compute the same, and then to work for a second, in turn. ``engines`` are ours, ``peers`` are timm's.
"""
