"""One module per command of ``reasonedit``, each with a function ``main``."""
