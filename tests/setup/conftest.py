"""A directory that other users can pass through."""

from tests.packaging.conftest import shared_directory

__all__ = ["shared_directory"]
