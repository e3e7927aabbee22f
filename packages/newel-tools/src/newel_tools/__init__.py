"""Generator, reviewer and prover for FastAPI back ends."""

__version__ = "0.1.0"
__all__ = ["__version__"]
