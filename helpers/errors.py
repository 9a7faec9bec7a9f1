"""The errors a reader may meet. Each message says what to do."""


class PhotoError(ValueError):
    """A picture that cannot be used: unreadable, too large, too small, or of an unknown kind."""


class ModelError(ValueError):
    """A network, or a choice of one, that these methods cannot explain."""


class ModelUnavailable(ModelError):
    """Weights that are not here and could not be fetched, or that fail their checksum."""
