"""Learn multimodal recommendation by writing it."""
