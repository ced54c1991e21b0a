"""The experiments of the method's section 8: each a plan of cells, run one after the other, and a summary of them.

A cell is one editor on one stream with one seed. Its predictions are a Parquet file with what made them; a cell that is
there already is not run again.
"""

from .bootstrap import Estimate, summarise
from .cells import Cell, Lab, read_cell
from .plans import EXPERIMENTS, Experiment

__all__ = ["EXPERIMENTS", "Cell", "Estimate", "Experiment", "Lab", "read_cell", "summarise"]
