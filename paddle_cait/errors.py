"""Every error a user can cause, each with one clear line: which file, what was expected, what to do."""


class PaddleCaitError(Exception):
    """Base of all errors raised on purpose. A command prints it as one line on stderr and exits 2."""


class PresetError(PaddleCaitError):
    """An unknown preset name, or a preset file that breaks the schema."""


class WeightsError(PaddleCaitError):
    """A checkpoint that cannot be read, is refused as unsafe, or does not fit the model."""


class DataError(PaddleCaitError):
    """Images, lists or labels that are missing, malformed or unreadable."""


class ConfigError(PaddleCaitError):
    """Command-line flags or run configs that make no sense."""
