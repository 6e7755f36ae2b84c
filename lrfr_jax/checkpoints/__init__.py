"""What is kept of a model: its steps on the disk, where its weights come from, its card."""
