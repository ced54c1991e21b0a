"""YAML files for the command line."""
