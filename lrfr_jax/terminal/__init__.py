"""Between a command and the person who types it: lists and --config on its line, signs of life while it works."""
