"""The experiments of the method's section 8: each a plan of cells, run one after the other, and a summary of them.

A cell is one editor on one stream with one seed. Its predictions are a Parquet file with what made them. A cell
whose file is there is not run again.
"""

from .bootstrap import Estimate, summarise
from .cell_file import read_cell
from .cells import Cell
from .experiment import Experiment
from .lab import Lab
from .plans import EXPERIMENTS
from .running import run_cell

__all__ = ["EXPERIMENTS", "Cell", "Estimate", "Experiment", "Lab", "read_cell", "run_cell", "summarise"]
