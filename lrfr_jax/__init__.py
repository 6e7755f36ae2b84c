"""Train one face embedder that works from 7 px to 112 px."""
