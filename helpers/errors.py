"""The errors a reader may meet. Each message says what to do."""

#: Who explains a network that the explicit walk cannot take.
ASK_ANY = "saliency_any, grad_cam_any, guided_gradcam_any or all_maps_any"


class PhotoError(ValueError):
    """A picture that cannot be used: unreadable, too large, too small, or of an unknown kind."""


class ModelError(ValueError):
    """A network, or a choice of one, that these methods cannot explain."""


class ModelUnavailable(ModelError):
    """Weights that are not here and could not be fetched, or that fail their checksum."""
