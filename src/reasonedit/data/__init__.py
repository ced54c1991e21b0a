"""Edit streams and the data they are made from."""

from .aokvqa import AOKVQA
from .editfile import EditFile
from .fvqa import FVQA
from .pool import Pool
from .rationale_vqa import RationaleVQA
from .sample import Sample
from .sample_pictures import sample_picture
from .source import EditSource, Probe

__all__ = ["AOKVQA", "FVQA", "EditFile", "EditSource", "Pool", "Probe", "RationaleVQA", "Sample", "sample_picture"]
