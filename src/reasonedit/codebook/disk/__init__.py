"""A codebook's folder: its files, who may write them, and how they are written and read."""
