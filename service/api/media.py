"""The media types that requests come in."""

JSON_TYPE = "application/json"
FORM_TYPE = "multipart/form-data"
RAW_TYPE = "application/octet-stream"
PICTURE_TYPES = ("image/png", "image/jpeg")

PICTURE_MODEL = "mnist-cnn"  # reads a picture whose request names no model
