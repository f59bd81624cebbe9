"""The command line, one file a verb. ``paddle-cait VERB`` and ``python tools/VERB.py`` are the same code."""
