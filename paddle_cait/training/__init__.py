"""Training: the optimiser, its schedule, what goes into the loss, and runs that survive a kill."""
