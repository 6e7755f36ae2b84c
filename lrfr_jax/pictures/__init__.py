"""Pictures as people have them: found in folders and tars, decoded, and brought to an aligned 112x112 face."""
