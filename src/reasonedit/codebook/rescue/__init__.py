"""What is damaged in a codebook's folder, and what can be recovered of it."""
