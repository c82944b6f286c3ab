"""How sure is it? Placeholder, filled below."""

__version__ = "0.1.0"
