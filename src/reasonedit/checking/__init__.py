"""Checks of edits: what an edit does, or would do, and how sure that is."""

from .asking import Change
from .check import EditCheck, check_edit
from .sentences import Doubt
from .verdict import Finding, Verdict

__all__ = ["Change", "Doubt", "EditCheck", "Finding", "Verdict", "check_edit"]
