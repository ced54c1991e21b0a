"""Other editors, on the same streams and metrics: import them as ``reasonedit.callbacks.baselines``."""

from .balancedit import BalancEdit
from .finetune import FineTuning
from .grace import GRACE
from .ike import IKE
from .lora import LoRA
from .mend import MEND
from .rag import RAG
from .serac import SERAC
from .unedited import Unedited
from .wise import WISE

__all__ = ["GRACE", "IKE", "MEND", "RAG", "SERAC", "WISE", "BalancEdit", "FineTuning", "LoRA", "Unedited"]
