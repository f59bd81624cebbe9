"""From a built model to a folder that a runtime serves: folding, formats, verification, prediction.

The room is not called ``export``: that is the name of the function, ``paddle_cait.export``.
"""
