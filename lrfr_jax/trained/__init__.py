"""A trained model in use: opened, asked for embeddings, and what its commands share."""
