"""Tools that know nothing of editing: files, text, threads, signals, checksums."""
