"""Random changes to training images. Every draw comes from the generator that is handed in, so that a run that is
resumed, or divided among other processes, sees the same pixels."""
