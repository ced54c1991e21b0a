"""Folders of runs, and how a run that was cut short goes on."""
