"""From a built model to a folder that a runtime serves: folding, formats, verification, prediction."""
