"""The one exception that a user is meant to read."""


class ReasonEditError(ValueError):
    """Something in the input cannot be used. The message names the thing and says what to do."""
