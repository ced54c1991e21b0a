"""Edit streams and the data they are made from."""
