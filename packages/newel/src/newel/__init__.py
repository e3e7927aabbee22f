"""The production patterns of a FastAPI back end, small and typed; import from where things live."""

__version__ = "0.1.0"
__all__ = ["__version__"]
