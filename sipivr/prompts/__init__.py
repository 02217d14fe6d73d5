"""What customers hear: texts, speech engines, and a cache of ready telephone audio."""

from sipivr.prompts.library import PromptLibrary, PromptProgress
from sipivr.prompts.wording import Money, PromptVariable, Texts

__all__ = ["Money", "PromptLibrary", "PromptProgress", "PromptVariable", "Texts"]
