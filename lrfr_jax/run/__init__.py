"""A run in time: what a config means, the folder, training, evaluation on the way, continuing."""
