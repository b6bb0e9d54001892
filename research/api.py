"""The public Python API (docs/python.md): load a trained model, then predict, generate or embed."""

from research.errors import UserError
from research.evaluation.embedding import Recipe, embed
from research.evaluation.predictor import generate, predict
from research.generation.decoding import DecodingConfig
from research.run.loaded import load_model

__all__ = ["DecodingConfig", "Recipe", "UserError", "embed", "generate", "load_model", "predict"]
