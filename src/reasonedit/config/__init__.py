"""Config files: finding, reading and merging them, and what is said of those that cannot be used."""
